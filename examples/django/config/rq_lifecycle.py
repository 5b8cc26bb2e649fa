"""Boot file of RQ, for both of its commands.

rq worker -c config.rq_lifecycle -w config.rq_lifecycle.Worker ...
manage.py rqworker --worker-class config.rq_lifecycle.Worker ...
"""

from typing import Any

from django.conf import settings

import sigra_workers_rq
from config.boot import workers

REDIS_URL = settings.REDIS_URL  # where `rq worker` looks for it
sigra_workers_rq.boot(workers)


class Worker(sigra_workers_rq.Worker):
    """For our jobs alone; rqworker has no options for these intervals (seconds)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        intervals = {"maintenance_interval": 5, "job_monitoring_interval": 5}
        super().__init__(*args, **{**intervals, **options})
