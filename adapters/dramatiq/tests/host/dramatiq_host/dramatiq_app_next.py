"""The boot file of the next release, which has one worker more."""

from dramatiq_host.implementations import begin, step
from dramatiq_host.jobs import StepArgs, workers
from sigra_workers import AuditScope, Result
from sigra_workers_dramatiq import boot


@workers.worker(name="steps.new")
def new(scope: AuditScope, args: StepArgs) -> Result[object]:
    result: Result[object] = step(begin(scope, args))
    return result


boot(workers)
