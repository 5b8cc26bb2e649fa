"""RQ with sigra-workers."""

from benchmarks import places
from benchmarks.host import Host
from sigra_workers_rq import boot

boot(Host("rq", queue=places.OURS, url=places.REDIS).workers)
