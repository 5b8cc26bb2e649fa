"""The boot file of RQ's worker processes."""

import os

from tests.observability.host import serve

from sigra_workers_rq import boot

REDIS_URL = os.environ["REDIS_URL"]  # where RQ looks for it
boot(serve())
