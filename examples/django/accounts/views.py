"""Requests: who acts, and for which organization, is known here and goes along as args."""

from functools import partial

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

from accounts.jobs import CloseAccountArgs, close_account
from accounts.models import Account
from accounts.scopes import scope_of
from config.jobs import workers
from sigra_workers import organization_args


@require_POST
def close(request: HttpRequest) -> HttpResponse:
    """Have accounts closed: POST their ids as `account`."""
    scope = scope_of(request)
    ids = [int(each) for each in request.POST.getlist("account")]
    with transaction.atomic():
        ours = Account.objects.select_for_update().filter(organization=scope.active_organization)
        closing = [account.pk for account in ours.filter(pk__in=ids, state="open")]
        Account.objects.filter(pk__in=closing).update(state="closing")
        who = organization_args(scope)
        jobs = [close_account.new(CloseAccountArgs(**who, account_id=each)) for each in closing]
        transaction.on_commit(partial(workers.enqueue_many, jobs))
    return HttpResponse(f"{len(jobs)} accounts are being closed\n", status=202)
