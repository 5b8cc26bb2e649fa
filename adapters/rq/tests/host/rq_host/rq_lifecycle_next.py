"""The boot file of the next release, which has one worker more."""

from tests.queues.host import StepArgs

from rq_host.implementations import steps
from rq_host.jobs import workers
from sigra_workers import AuditScope, Result
from sigra_workers_rq import boot


@workers.worker(name="steps.new")
def new(scope: AuditScope, args: StepArgs) -> Result[object]:
    result: Result[object] = steps.step(steps.begin(scope, args))
    return result


boot(workers)
