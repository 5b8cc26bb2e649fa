"""The workers themselves; imported by worker processes only."""

from tests.queues.implementations import Steps

from dramatiq_host.jobs import host

workers = host.workers
steps = Steps(host)
