"""Boot file: dramatiq app.dramatiq_app."""

import app.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]  # registers what does the jobs
from sigra_workers_dramatiq import boot

boot("app.jobs:workers")
