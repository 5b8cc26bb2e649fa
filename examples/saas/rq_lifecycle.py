"""Boot file: rq worker -c saas.rq_lifecycle --serializer json --with-scheduler saas."""

import logging

import saas.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]  # registers what does the jobs
from saas import config
from sigra_workers_rq import boot

logging.basicConfig(level=logging.INFO)
REDIS_URL = config.REDIS_URL  # where RQ looks for it
boot("saas.jobs:workers")
