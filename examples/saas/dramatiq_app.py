"""Boot file: dramatiq saas.dramatiq_app."""

import saas.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]  # registers what does the jobs
from sigra_workers_dramatiq import boot

boot("saas.jobs:workers")
