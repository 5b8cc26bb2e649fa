"""Boot file of RQ's worker processes."""

import logging

import shop.implementations
from shop.queues import REDIS_URL  # where RQ looks for it
from sigra_workers_rq import boot

logging.basicConfig(level=logging.INFO)
boot("shop.registry:workers")
