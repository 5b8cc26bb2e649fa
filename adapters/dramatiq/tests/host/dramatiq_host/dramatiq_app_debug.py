"""A boot file that has every logger print all it has."""

import logging

import dramatiq_host.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sigra_workers_dramatiq import boot

logging.getLogger("pika").setLevel(logging.DEBUG)
boot("dramatiq_host.jobs:workers")
