"""Boot file of RQ's worker processes."""

import logging.config

import app.implementations  # registers what does the jobs
from app.jobs import REDIS_URL  # where RQ looks for it
from app.logs import LOGGING
from sigra_workers_rq import boot

logging.config.dictConfig(LOGGING)
boot("app.jobs:workers")
