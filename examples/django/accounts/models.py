"""Organizations, their members, and their accounts."""

from typing import ClassVar

from django.contrib.auth.models import User
from django.db import models


class Organization(models.Model):
    """A tenant."""

    name = models.CharField(max_length=100)
    members = models.ManyToManyField(User, related_name="organizations")

    def __str__(self) -> str:
        return self.name


class Account(models.Model):
    """An account of one organization."""

    STATES: ClassVar = [("open", "open"), ("closing", "closing"), ("closed", "closed")]

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="accounts")
    state = models.CharField(max_length=10, choices=STATES, default="open")

    def __str__(self) -> str:
        return f"account {self.pk}, {self.state}"
