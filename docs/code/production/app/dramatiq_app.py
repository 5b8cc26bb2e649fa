"""Boot file of Dramatiq's worker processes."""

import logging.config

import app.implementations  # registers what does the jobs
from app.logs import LOGGING
from sigra_workers_dramatiq import boot

logging.config.dictConfig(LOGGING)
boot("app.jobs:workers")
