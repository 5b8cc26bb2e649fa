"""The audit trail: a table of the application's own database, written by requests and jobs alike."""

from typing import Final

from saas import config
from saas.models import audit_table
from sigra_workers import Audit
from sigra_workers_sqlalchemy import AuditTrail

trail: Final = AuditTrail.at(config.DATABASE_URL, audit_table)
audit: Final = Audit(trail)
