"""The settings of arq's worker processes."""

import os
from typing import Any

from tests.losses.host import serve

from sigra_workers_arq import boot

grace: dict[str, Any] = {"job_completion_wait": int(os.environ["GRACE"])} if "GRACE" in os.environ else {}
WorkerSettings = boot(serve(), max_jobs=20, **grace)
