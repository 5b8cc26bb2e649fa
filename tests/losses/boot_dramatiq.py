"""What Dramatiq's worker processes import."""

from tests.losses.host import serve

from sigra_workers_dramatiq import boot

boot(serve())
