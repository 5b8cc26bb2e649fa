"""Boot file of arq's worker processes: the settings of one queue each."""

import app.implementations  # registers what does the jobs
from sigra_workers_arq import boot

Lifecycle = boot("app.jobs:workers", queue="lifecycle", job_completion_wait=75)
Reports = boot("app.jobs:workers", queue="reports", job_completion_wait=615, max_jobs=2)
