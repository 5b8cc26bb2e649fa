"""The table of audit events, named and laid out as that of sigra-workers-sqlalchemy."""

from typing import ClassVar

from django.db import models


class AuditRow(models.Model):
    """One event. Ids are text, as users and targets may be of any kind."""

    event_id = models.CharField(max_length=36, unique=True)
    occurred_at = models.DateTimeField()
    action = models.CharField(max_length=255)
    outcome = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=255, null=True)
    actor_type = models.CharField(max_length=16)
    effective_user_id = models.CharField(max_length=255, null=True)
    organization_id = models.CharField(max_length=255, null=True)
    target_type = models.CharField(max_length=255, null=True)
    target_id = models.CharField(max_length=255, null=True)
    metadata = models.JSONField()
    job_id = models.CharField(max_length=128, null=True)
    worker = models.CharField(max_length=128, null=True)
    queue = models.CharField(max_length=128, null=True)
    attempt = models.IntegerField(null=True)
    schema_version = models.SmallIntegerField()

    class Meta:
        db_table = "audit_events"
        indexes: ClassVar = [
            models.Index(fields=["organization_id", "occurred_at", "id"], name="audit_organization"),
            models.Index(fields=["job_id"], name="audit_job"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.outcome}"
