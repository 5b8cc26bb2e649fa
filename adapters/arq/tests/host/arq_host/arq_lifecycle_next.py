"""The boot file of the next release, which has one worker more."""

import os

from arq_host.implementations import begin, step
from arq_host.jobs import StepArgs, workers
from sigra_workers import AuditScope, Result
from sigra_workers_arq import boot


@workers.worker(name="steps.new", queue=os.environ["HOST_QUEUE"])
def new(scope: AuditScope, args: StepArgs) -> Result[object]:
    result: Result[object] = step(begin(scope, args))
    return result


WorkerSettings = boot(workers, queue=os.environ["HOST_QUEUE"], poll_delay=0.05)
