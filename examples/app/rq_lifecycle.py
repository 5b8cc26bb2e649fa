"""Boot file: rq worker -c app.rq_lifecycle --serializer json --with-scheduler lifecycle reports."""

import app.implementations  # noqa: F401  # pyright: ignore[reportUnusedImport]  # registers what does the jobs
from sigra_workers_rq import boot

boot("app.jobs:workers")
