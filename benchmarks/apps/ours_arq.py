"""arq with sigra-workers."""

import os

from benchmarks import places
from benchmarks.host import Host
from sigra_workers_arq import boot

WorkerSettings = boot(
    Host("arq", queue=places.OURS, url=places.REDIS).workers, poll_delay=float(os.environ["POLL_DELAY"])
)
