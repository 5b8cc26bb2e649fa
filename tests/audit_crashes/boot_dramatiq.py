"""What Dramatiq's worker processes import."""

from tests.audit_crashes.host import serve

from sigra_workers_dramatiq import boot

boot(serve())
