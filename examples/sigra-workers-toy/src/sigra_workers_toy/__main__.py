"""The command of a worker process: python -m sigra_workers_toy app.jobs:workers."""

import argparse
import importlib
import logging
import signal
from contextlib import suppress
from typing import Final

from sigra_workers.boot import bind
from sigra_workers_toy.process import WorkerProcess

_COMMAND: Final = "python -m sigra_workers_toy app.jobs:workers --import app.implementations"


def main() -> None:
    """Run jobs until SIGTERM or SIGINT, and end when the running ones have."""
    parser = argparse.ArgumentParser(prog="python -m sigra_workers_toy")
    parser.add_argument("workers", help="the registry, module:attribute, such as app.jobs:workers")
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="a module with implementations, such as app.implementations; may be repeated",
    )
    parser.add_argument("--queue", dest="queues", action="append", default=[], help="all of them by default")
    parser.add_argument("--threads", type=int, default=4, help="jobs at a time")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        for module in options.modules:
            importlib.import_module(module)
        with bind(options.workers, "toy", _COMMAND) as workers:
            WorkerProcess(workers, options.queues, options.threads).run()


if __name__ == "__main__":
    main()
