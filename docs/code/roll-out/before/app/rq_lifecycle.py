"""Boot file of RQ's worker processes."""

import logging

import app.implementations
from app.registry import REDIS_URL  # where RQ looks for it
from sigra_workers_rq import boot

logging.basicConfig(level=logging.INFO)
boot("app.registry:workers")
