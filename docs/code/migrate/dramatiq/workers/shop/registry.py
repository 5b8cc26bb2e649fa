"""The registry of the new jobs."""

from shop.queues import broker
from sigra_workers import AuditScope, Workers

workers = Workers[AuditScope](adapter="dramatiq", settings={"broker": broker})
