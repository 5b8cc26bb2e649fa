"""A boot file that has every logger print all it has."""

import logging

import rq_host.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sigra_workers_rq import boot

logging.basicConfig(level=logging.DEBUG)
boot("rq_host.jobs:workers")
