"""The workers themselves; imported by worker processes only."""

from rq import Retry
from tests.queues.implementations import Steps

from rq_host.jobs import host
from sigra_workers import Ok

workers = host.workers
steps = Steps(host, retry=lambda: Ok(Retry(max=3)))
