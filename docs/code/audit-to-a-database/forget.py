"""From cron, each night: forget audit events that are older than two years."""

import os
from datetime import UTC, datetime, timedelta

from sqlalchemy import create_engine

from app.database import events
from sigra_workers import EVERY_ORGANIZATION
from sigra_workers_sqlalchemy import AuditTrail

KEPT = timedelta(days=730)

engine = create_engine(os.environ["OWNER_URL"], hide_parameters=True)  # may delete, and takes its time
trail = AuditTrail(engine, events)
print(trail.purge(organization=EVERY_ORGANIZATION, before=datetime.now(UTC) - KEPT), "events forgotten")
