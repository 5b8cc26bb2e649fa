"""Sender and worker in one process: the embedded adapter needs no server."""

import logging

import app.implementations
import send
from app.jobs import workers
from sigra_workers.memory import MemoryAdapter

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
print(MemoryAdapter.of(workers).drain())
