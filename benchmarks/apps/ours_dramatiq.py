"""Dramatiq with sigra-workers, on the broker that BROKER names."""

import os

from benchmarks import places
from benchmarks.host import Host
from sigra_workers_dramatiq import boot

boot(Host("dramatiq", queue=places.OURS, **places.dramatiq(os.environ["BROKER"])).workers)
