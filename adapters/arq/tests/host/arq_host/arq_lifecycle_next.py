"""The boot file of the next release, which has one worker more."""

import os

from tests.queues.host import StepArgs

from arq_host.implementations import steps
from arq_host.jobs import workers
from sigra_workers import AuditScope, Result
from sigra_workers_arq import boot


@workers.worker(name="steps.new", queue=os.environ["HOST_QUEUE"])
def new(scope: AuditScope, args: StepArgs) -> Result[object]:
    result: Result[object] = steps.step(steps.begin(scope, args))
    return result


WorkerSettings = boot(workers, queue=os.environ["HOST_QUEUE"], poll_delay=0.05)
