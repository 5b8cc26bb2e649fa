"""The one URL."""

from django.urls import path

from accounts.views import close

urlpatterns = [path("accounts/close", close)]
