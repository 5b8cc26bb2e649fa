"""Boot file of RQ's worker processes."""

import logging

import app.implementations
from app.jobs import REDIS_URL  # where RQ looks for it
from sigra_workers_rq import boot

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
boot("app.jobs:workers")
