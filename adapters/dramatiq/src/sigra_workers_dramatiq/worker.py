"""A worker process without a boot file, bound by the environment variable SIGRA_WORKERS.

``SIGRA_WORKERS=app.implementations:workers dramatiq sigra_workers_dramatiq.worker``
"""

from sigra_workers_dramatiq import boot

boot()
