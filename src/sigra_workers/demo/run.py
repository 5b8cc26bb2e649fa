"""Enqueues the demo's jobs, has them run, and shows what became of them."""

import importlib
import json
import logging
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from sigra_workers.args import TenantArgs, organization_args, tenant_args
from sigra_workers.errors import AdapterNotFoundError
from sigra_workers.memory import MemoryAdapter
from sigra_workers.table import table

if TYPE_CHECKING:
    from sigra_workers.jobs import Job

PATIENCE: Final = 18.0
"""Seconds until jobs that did not end are given up."""
FINAL: Final = ("complete", "dead", "cancel")


def run(adapter: str) -> int:
    """Run the demo on an adapter; 0 where every job ended and every audit event has its own job's ids."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sigra-workers-demo-"))
        queue = f"sigra-demo-{os.getpid()}"
        os.environ.update(SIGRA_DEMO_ADAPTER=adapter, SIGRA_DEMO_QUEUE=queue, SIGRA_DEMO_FOLDER=folder)
        process = None
        if adapter != "memory":
            process = _supplied(adapter)
            os.environ["SIGRA_DEMO_SETTINGS"] = json.dumps(process.SETTINGS)
            stack.callback(process.clean, queue)
        from sigra_workers.demo import app

        jobs = _jobs()
        app.workers.enqueue_many(jobs)
        print(f"{len(jobs)} jobs enqueued on adapter {adapter!r}, in 3 organizations and in none\n")
        log = Path(folder) / "worker.log"
        if process is None:
            logging.basicConfig(filename=log)
            embedded = MemoryAdapter.of(app.workers)
            embedded.start()
            stack.callback(embedded.stop)
        else:
            output = stack.enter_context(log.open("w"))
            worker = subprocess.Popen(process.command(queue), stdout=output, stderr=output)
            stack.callback(worker.wait, 10)
            stack.callback(worker.terminate)
        ended = _watch(app.runs, {job.id for job in jobs})
        if len(ended) < len(jobs):
            print(f"\nThe worker's log:\n\n{log.read_text()}")
        return _report(jobs, ended, app.trail.read())


def _supplied(adapter: str) -> Any:
    """What an adapter's distribution supplies to run the demo: settings, the worker command, a clean-up."""
    try:
        return importlib.import_module(f"sigra_workers_{adapter}.demo")
    except ModuleNotFoundError as error:
        raise AdapterNotFoundError(adapter, ["memory"]) from error


def _jobs() -> "list[Job[Any]]":
    """Who acts, where, on what: a request scope of each kind, as a web handler has one."""
    from sigra_workers.demo.app import (
        AccountArgs,
        clean_up_tokens,
        close_account,
        deliver_webhook,
        export_data,
        rename_account,
        send_invoice,
    )

    ann = _request("ann", "northwind")
    ada_as_ann = _request("ann", "northwind", admin="ada")
    bob = _request("bob", "acme")
    cleo = _request("cleo", "globex")
    return [
        rename_account.new(AccountArgs(**organization_args(ann), account_id="acc-1")),
        rename_account.new(AccountArgs(**organization_args(ada_as_ann), account_id="acc-2")),
        send_invoice.new(AccountArgs(**organization_args(bob), account_id="acc-3")),
        close_account.new(AccountArgs(**organization_args(cleo), account_id="acc-4")),
        deliver_webhook.new(AccountArgs(**organization_args(bob), account_id="acc-5")),
        export_data.new(AccountArgs(**organization_args(cleo), account_id="acc-6")),
        send_invoice.new(
            AccountArgs(**organization_args(organization_id="northwind", actor_id=None), account_id="acc-7")
        ),
        clean_up_tokens.new(TenantArgs(**tenant_args(organization_id=None, actor_id=None))),
    ]


def _request(user: str, organization: str, *, admin: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        user=SimpleNamespace(id=user),
        active_organization=SimpleNamespace(id=organization),
        impersonating_from=admin and SimpleNamespace(id=admin),
    )


def _watch(runs: Any, ids: set[str]) -> dict[str, str]:
    """Print each run as it ends, until every job has; how each job ended."""
    ended: dict[str, str] = {}
    seen, started = 0, time.monotonic()
    while {*ended} != ids and time.monotonic() - started < PATIENCE:
        lines = runs.read()
        for run in lines[seen:]:
            turn = f"attempt {run['attempt']} of {run['max_attempts']}"
            since = time.monotonic() - started
            what = f"{run['decision']:<9}{run['why']}".rstrip()
            print(f"{since:5.1f} s  {run['worker']:<17}{run['organization'] or '-':<11}{turn:<16}{what}")
            if run["decision"] in FINAL:
                ended[run["id"]] = run["decision"]
        seen = len(lines)
        time.sleep(0.05)
    return ended


def _report(jobs: "list[Job[Any]]", ended: dict[str, str], events: list[dict[str, Any]]) -> int:
    titles = ("action", "outcome", "organization", "actor", "effective user", "target", "worker", "attempt")
    names = (
        "action",
        "outcome",
        "organization_id",
        "actor_id",
        "effective_user_id",
        "target_id",
        "worker",
        "attempt",
    )
    rows = [["-" if event[name] is None else str(event[name]) for name in names] for event in events]
    print("\nThe audit trail: who really acted, for whom, and where\n")
    print(table(titles, rows))
    args = {job.id: job.args for job in jobs}
    wrong = [event for event in events if not _is_own(event, args[event["job_id"]])]
    missing = len(args) - len(ended)
    own = f"{len(wrong)} with another job's ids" if wrong else "each with the ids of its job"
    over = f"{missing} of {len(args)} jobs did not end" if missing else f"all {len(args)} jobs ended"
    print(f"\n{len(events)} events, {own}; {over}")
    return 1 if wrong or missing or not events else 0


def _is_own(event: dict[str, Any], args: Any) -> bool:
    """Whether an event has the ids of the job that wrote it: under impersonation the admin is the actor."""
    actor = args.get("impersonating_from") or args["actor_id"]
    return (event["organization_id"], event["actor_id"], event["effective_user_id"]) == (
        args["organization_id"],
        actor,
        args["actor_id"],
    )
