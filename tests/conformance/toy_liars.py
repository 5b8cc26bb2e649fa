"""Liars with real worker processes: the toy queue's, but for one thing.

python -m tests.conformance.toy_liars LIE QUEUE
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from sigra_workers import Dead, Outcome
from sigra_workers.conformance.script import implement
from sigra_workers_toy import WorkerProcess, process

TOY: Final = cast("Any", process)


def forgets() -> None:
    """A job leaves the queue when it is taken, and a signal ends the process at once."""
    TOY._TAKE = "DELETE FROM jobs WHERE ? IS NOT NULL AND ? IS NOT NULL AND id = ?"
    TOY.WorkerProcess._stop = lambda *_: os._exit(1)


def counts_no_crash() -> None:
    """How often a job was begun is not noted."""
    TOY._TAKE = "UPDATE jobs SET owner = ?, ready_at = ? WHERE id = ?"


def renews_no_lease() -> None:
    """A job that takes long is taken again meanwhile."""
    TOY.LEASE = 0.2
    TOY.WorkerProcess._renew = lambda self: None
    TOY.WorkerProcess._running = []


def dies_of_broken_payloads() -> None:
    """What can't be read ends the process."""
    carry_out: Callable[[Any, Any, Outcome | None], bool] = TOY._carry_out

    def dying(db: Any, run: Any, outcome: Outcome | None) -> bool:
        if isinstance(outcome, Dead) and outcome.payload is None:
            os._exit(1)
        return carry_out(db, run, outcome)

    TOY._carry_out = dying


LIES: Final = {
    lie.__name__: lie for lie in (forgets, counts_no_crash, renews_no_lease, dies_of_broken_payloads)
}


def main(lie: str, queue: str) -> None:
    """A worker process of the kit."""
    from sigra_workers.conformance.app import setup, workers

    implement(workers, setup)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    TOY.LEASE = 1.0
    LIES[lie]()
    with suppress(KeyboardInterrupt):
        WorkerProcess(workers, [queue]).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
