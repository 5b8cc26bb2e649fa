"""The registry of the new jobs."""

from shop.queues import redis_settings
from sigra_workers import AuditScope, Workers

workers = Workers[AuditScope](adapter="arq", settings={"redis_settings": redis_settings})
