"""The audit trail of sigra-workers in a database: a table, a sink, queries, and jobs sent after a commit."""

from sigra_workers_sqlalchemy.after_commit import enqueue_after_commit
from sigra_workers_sqlalchemy.table import audit_events
from sigra_workers_sqlalchemy.trail import AuditTrail

__version__ = "0.1.0"

__all__ = ["AuditTrail", "__version__", "audit_events", "enqueue_after_commit"]
