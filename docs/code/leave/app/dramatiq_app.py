"""Boot file of Dramatiq's worker processes."""

import app.implementations
from sigra_workers_dramatiq import boot

boot("app.jobs:workers")
