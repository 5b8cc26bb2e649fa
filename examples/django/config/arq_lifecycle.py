"""Boot file of arq: arq config.arq_lifecycle.WorkerSettings."""

from config.boot import workers
from sigra_workers_arq import boot

WorkerSettings = boot(workers, queue="accounts")
