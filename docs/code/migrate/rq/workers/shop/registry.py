"""The registry of the new jobs."""

from shop.queues import connection
from sigra_workers import AuditScope, Workers

workers = Workers[AuditScope](adapter="rq", settings={"connection": connection, "serializer": "pickle"})
