"""The kit's application in a worker process: bind the process to `sigra_workers.conformance.app:workers`.

Then import `sigra_workers.conformance.workers`, where its workers are implemented.
"""

import json
import os
from typing import Any, Final

from sigra_workers.conformance.host import ENVIRONMENT, Setup, make_workers

_found: Final[dict[str, Any]] = json.loads(os.environ[ENVIRONMENT])
QUEUE: Final = os.environ[f"{ENVIRONMENT}_QUEUE"]
"""The queue that this worker process is to serve."""
setup: Final = Setup(**_found)
workers: Final = make_workers(setup)
