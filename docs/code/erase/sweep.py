"""From cron, each day: forget what is left of organizations that have left."""

from datetime import UTC, datetime, timedelta

from app.database import engine, events, left_before
from app.jobs import workers
from sigra_workers_sqlalchemy import AuditTrail

JOBS_KEPT = timedelta(days=30)  # should they come back, their jobs can be sent again
EVENTS_KEPT = timedelta(days=365)

now = datetime.now(UTC)
trail = AuditTrail(engine, events)  # not that of the application, which is given 2 s
for organization_id in left_before(now - JOBS_KEPT):
    jobs = workers.purge(workers.dead(organization=organization_id))
    rows = trail.purge(organization=organization_id, before=now - EVENTS_KEPT)
    print(organization_id, jobs, "dead jobs and", rows, "audit events forgotten")
