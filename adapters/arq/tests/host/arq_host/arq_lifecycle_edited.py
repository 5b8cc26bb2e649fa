"""A boot file of a host that changes what `boot` made, as HOST_EDITS says."""

import json
import os
from typing import Any
from unittest.mock import patch

import arq_host.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sigra_workers_arq import boot, presence

edits: dict[str, Any] = json.loads(os.environ["HOST_EDITS"])
if "announced" in edits:
    patch.object(presence, "ANNOUNCED", edits.pop("announced")).start()
made = boot("arq_host.jobs:workers", queue=os.environ["HOST_QUEUE"])
if "tries" in edits:
    made["functions"][0].max_tries = edits.pop("tries")
WorkerSettings = {**made, "poll_delay": 0.05, **edits}
