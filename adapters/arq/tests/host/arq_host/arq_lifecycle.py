"""The boot file of the worker processes. A test gives them further options of arq."""

import json
import os
from typing import Any

import arq_host.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sigra_workers_arq import boot

options: dict[str, Any] = json.loads(os.environ.get("HOST_OPTIONS", "{}"))
WorkerSettings = boot("arq_host.jobs:workers", queue=os.environ["HOST_QUEUE"], poll_delay=0.05, **options)
