"""The settings of arq's worker processes."""

from tests.audit_crashes.host import serve

from sigra_workers_arq import boot

WorkerSettings = boot(serve(), max_jobs=20)
