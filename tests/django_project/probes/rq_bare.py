"""Boot file of RQ for the probes without arounds."""

from django.conf import settings

import config.boot  # noqa: F401  # pyright: ignore[reportUnusedImport]
from probes.jobs import bare
from sigra_workers_rq import boot

REDIS_URL = settings.REDIS_URL
boot(bare)
