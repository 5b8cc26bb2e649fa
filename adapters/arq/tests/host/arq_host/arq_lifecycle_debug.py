"""A boot file that has every logger print all it has."""

import logging

from arq_host.arq_lifecycle import WorkerSettings as WorkerSettings  # noqa: PLC0414

logging.basicConfig(level=logging.DEBUG)
