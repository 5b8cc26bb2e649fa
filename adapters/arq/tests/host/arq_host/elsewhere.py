"""A registry of another queue."""

from sigra_workers import AuditScope, Workers

workers = Workers[AuditScope](adapter="memory")
