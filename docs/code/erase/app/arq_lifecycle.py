"""Boot file of arq's worker processes."""

import logging

import app.implementations
from sigra_workers_arq import boot

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
WorkerSettings = boot("app.jobs:workers", queue="reports")
