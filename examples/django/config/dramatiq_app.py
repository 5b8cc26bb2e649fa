"""Boot file of Dramatiq: dramatiq config.dramatiq_app."""

from config.boot import workers
from sigra_workers_dramatiq import boot

boot(workers)
