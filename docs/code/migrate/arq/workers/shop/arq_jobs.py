"""Boot file of arq's worker processes."""

import shop.implementations
from shop.queues import QUEUE
from shop.tasks import remind
from sigra_workers_arq import boot

WorkerSettings = boot("shop.registry:workers", queue=QUEUE, functions=[remind], job_completion_wait=30)
