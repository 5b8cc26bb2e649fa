"""Start everything, and end everything on Ctrl-C: ``python -m saas``.

That is a web process, and two worker processes where the queue has some of its own. One of these that ends is
started anew, as a supervisor (systemd, Kubernetes) does in production.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

PORT: Final = os.environ.get("SAAS_PORT", "8000")
PATIENCE: Final = 10.0
"""Seconds that a process may take to end."""
WEB: Final = "uvicorn --factory saas.web:create_app --port {port} --no-access-log --log-level warning"
WORKER: Final = {
    "rq": "rq worker -c saas.rq_lifecycle --serializer json --with-scheduler"
    " --worker-ttl 20 --maintenance-interval 5 --job-monitoring-interval 5 {queue}",
    "dramatiq": "dramatiq saas.dramatiq_app --processes 1 --threads 4 --worker-fork-timeout 5000",
    "arq": "arq saas.arq_lifecycle.WorkerSettings",
}


async def main() -> int:
    """Run until Ctrl-C or SIGTERM; 1 where the web process ends by itself."""
    from saas import config
    from saas.people import prepare

    prepare()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    workers = [WORKER[config.ADAPTER].format(queue=config.QUEUE)] * 2 if config.ADAPTER in WORKER else []
    running: list[asyncio.Task[Any]] = [
        asyncio.create_task(_run(WEB.format(port=PORT))),
        *(asyncio.create_task(_keep(worker)) for worker in workers),
    ]
    print(f"Adapter {config.ADAPTER!r}: open http://127.0.0.1:{PORT} and end with Ctrl-C", flush=True)
    asked = asyncio.create_task(stopped.wait())
    await asyncio.wait([asked, *running], return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return 0 if asked.done() else 1


async def _keep(command: str) -> None:
    """Run a command again whenever it ends."""
    while True:
        status = await _run(command)
        print(f"A worker process ended with status {status}: another one is started", flush=True)
        await asyncio.sleep(1)


async def _run(command: str) -> int:
    """Run a command of this environment, and end it when this is cancelled; its status."""
    name, *arguments = command.split()
    program = Path(sys.executable).with_name(name)
    # In a session of its own, so that Ctrl-C reaches this process alone, which tells the others once.
    process = await asyncio.create_subprocess_exec(program, *arguments, start_new_session=True)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            await _end(process)


async def _end(process: Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), PATIENCE)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


with TemporaryDirectory(prefix="saas-") as folder:
    # Without another one, a database of this start alone: before anything looks where it is.
    os.environ.setdefault("SAAS_DATABASE_URL", f"sqlite:///{folder}/saas.db")
    sys.exit(asyncio.run(main()))
