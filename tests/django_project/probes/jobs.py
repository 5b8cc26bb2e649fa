"""Probes of the project's workers, and the same with another `Workers`, that has no arounds."""

from django.conf import settings

from config.jobs import workers
from sigra_workers import AuditScope, TenantArgs, Workers

BACKOFF = 0.1  # seconds: tests don't wait for what they are not about

bare = Workers[AuditScope](adapter=settings.JOBS_ADAPTER, settings={"url": settings.REDIS_URL})


class ProbeArgs(TenantArgs):
    """`label` tells a probe from others."""

    label: str


query = workers.declare("probes.query", ProbeArgs, queue="accounts", backoff=BACKOFF)
aquery = workers.declare("probes.aquery", ProbeArgs, queue="accounts", backoff=BACKOFF)
hold = workers.declare("probes.hold", ProbeArgs, queue="accounts", backoff=BACKOFF)
bare_query = bare.declare("probes.query", ProbeArgs, queue="accounts", backoff=BACKOFF)
bare_aquery = bare.declare("probes.aquery", ProbeArgs, queue="accounts", backoff=BACKOFF)
