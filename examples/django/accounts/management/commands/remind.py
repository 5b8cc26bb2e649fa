"""python manage.py remind, from cron: a job for each organization, once a day."""

from django.core.management.base import BaseCommand
from django.utils import timezone

from accounts.jobs import remind
from accounts.models import Organization
from config.jobs import workers
from sigra_workers import OrganizationArgs


class Command(BaseCommand):
    """No user asks for it, so its actor is None."""

    help = "Remind each organization of its open accounts, once a day"

    def handle(self, *args: object, **options: object) -> None:
        """Send the jobs; one that was sent today is left out."""
        today = timezone.localdate()
        jobs = [
            remind.new(OrganizationArgs(organization_id=pk, actor_id=None), job_id=f"remind-{pk}-{today}")
            for pk in Organization.objects.values_list("pk", flat=True)
        ]
        workers.enqueue_many(jobs, on_duplicate="skip")
