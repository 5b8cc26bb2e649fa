"""python manage.py test: no queue, no worker process; jobs run in the transaction of the test."""

from django.contrib.auth.models import User
from django.test import TestCase, TransactionTestCase

import accounts.workers  # noqa: F401  # pyright: ignore[reportUnusedImport]
from accounts.jobs import CloseAccountArgs, close_account, remind
from accounts.models import Account, Organization
from config.jobs import workers
from sigra_workers import Cancel, OrganizationArgs
from sigra_workers.testing import testing


class AccountsTest(TestCase):
    """Ann is a member of Northwind, and Root of the staff."""

    def setUp(self) -> None:
        self.sigra = self.enterContext(testing(workers))
        self.ann = User.objects.create_user("ann")
        self.root = User.objects.create_user("root", is_staff=True)
        self.northwind = Organization.objects.create(name="Northwind")
        self.northwind.members.add(self.ann)
        self.account = Account.objects.create(organization=self.northwind)

    def sign_in(self, user: User, **session: int) -> None:
        """Have the test client's requests come from a user."""
        self.client.force_login(user)
        found = self.client.session
        found.update(session)
        found.save()

    def close(self, *accounts: Account) -> None:
        """Post the request, and commit what a TestCase never commits."""
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post("/accounts/close", {"account": [account.pk for account in accounts]})

    def test_an_account_is_closed_by_a_job(self) -> None:
        self.sign_in(self.ann, organization=self.northwind.pk)
        self.close(self.account)
        self.sigra.assert_enqueued(
            close_account, args={"account_id": self.account.pk}, organization_id=self.northwind.pk
        )
        self.assertEqual(self.sigra.drain(), {"complete": 1})
        self.account.refresh_from_db()
        self.assertEqual(self.account.state, "closed")
        self.sigra.assert_audit_logged(action="account.closed", real_actor=self.ann.pk)

    def test_staff_acts_as_somebody(self) -> None:
        self.sign_in(self.root, organization=self.northwind.pk, acting_as=self.ann.pk)
        self.close(self.account)
        self.sigra.drain()
        self.sigra.assert_audit_logged(real_actor=self.root.pk, effective_user=self.ann.pk)

    def test_nobody_closes_an_account_of_another_organization(self) -> None:
        other = Account.objects.create(organization=Organization.objects.create(name="Acme"))
        self.sign_in(self.ann, organization=self.northwind.pk)
        self.close(other)
        self.sigra.refute_enqueued(close_account)

    def test_who_is_no_member_is_refused(self) -> None:
        for user in (self.ann, self.root):
            self.sign_in(user, organization=Organization.objects.create(name="Acme").pk)
            self.assertEqual(self.client.post("/accounts/close").status_code, 403)

    def test_a_job_of_an_organization_that_is_gone_is_cancelled(self) -> None:
        args = CloseAccountArgs(organization_id=self.northwind.pk, actor_id=None, account_id=self.account.pk)
        self.northwind.delete()
        self.assertEqual(self.sigra.perform_job(close_account, args), Cancel("the organization is gone"))


class RemindTest(TransactionTestCase):
    """Async code has other threads for the database: they don't see the transaction of a TestCase."""

    async def test_an_async_worker(self) -> None:
        northwind = await Organization.objects.acreate(name="Northwind")
        await Account.objects.acreate(organization=northwind)
        with testing(workers) as sigra:
            await remind.aenqueue(OrganizationArgs(organization_id=northwind.pk, actor_id=None))
            self.assertEqual(await sigra.adrain(), {"complete": 1})
            event = sigra.assert_audit_logged(action="reminder.sent", real_actor=None)
        self.assertEqual(event.metadata, {"accounts": 1})
