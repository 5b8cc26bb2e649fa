"""Boot file: binds a worker process of RQ to the registry."""

import logging

import app.implementations
from app.jobs import REDIS_URL  # where RQ looks for it
from sigra_workers_rq import boot

logging.basicConfig(level=logging.INFO)
boot("app.jobs:workers")
