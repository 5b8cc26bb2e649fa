"""Boot file of Dramatiq's worker processes."""

import logging

import shop.implementations
import shop.tasks  # the old jobs
from sigra_workers_dramatiq import boot

logging.getLogger("sigra_workers").setLevel(logging.INFO)
boot("shop.registry:workers")
