"""Jobs of many organizations at the same time: none ever sees another's."""

import asyncio
import random
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from tests.support import MODES, Builder, Host, Kind

from sigra_workers import (
    AuditScope,
    AuditScopeBuilder,
    Complete,
    Delivery,
    Ok,
    Payload,
    adispatch,
    current_job,
    dispatch,
)
from sigra_workers.loops import in_thread

JOBS, ORGANIZATIONS, AT_ONCE = 150, 50, 16
TENANT: ContextVar[object] = ContextVar("TENANT", default=None)
Mixture = tuple[Host, list[Payload]]


def pause() -> None:
    time.sleep(random.random() / 2_000)


def host_of_many(kind: Kind, builder: Kind | None) -> Mixture:
    """A host whose worker writes three audit rows, from wherever it may, and its jobs."""
    options: dict[str, Any] = {}
    if builder is not None:

        def build(args: Any) -> AuditScope:
            pause()
            return AuditScopeBuilder().build(args)

        options["scope_builder"] = Builder(builder, build)
    host = Host(MODES[0], **options)

    @host.workers.around
    def tenant(job: Any, scope: Any, args: Any) -> Generator[None]:
        assert TENANT.get() is None
        TENANT.set(args["organization_id"])
        yield
        assert TENANT.get() == args["organization_id"]

    def log(action: str, scope: Any, args: Any) -> None:
        job = current_job()
        assert job is not None
        seen: Any = {"tenant": TENANT.get(), "organization": args["organization_id"], "job": job.id}
        host.audit.log(action, scope, metadata=seen)

    def perform(scope: Any, args: Any) -> Ok[object]:
        log("account.opened", scope, args)
        pause()
        log("account.checked", scope, args)
        pause()
        log("account.closed", scope, args)
        return Ok(args["organization_id"])

    async def aperform(scope: Any, args: Any) -> Ok[object]:
        log("account.opened", scope, args)
        await asyncio.sleep(random.random() / 2_000)
        await in_thread(log, "account.checked", scope, args)
        await asyncio.create_task(asyncio.to_thread(log, "account.closed", scope, args))
        return Ok(args["organization_id"])

    host.exact(perform if kind == "def" else aperform)
    jobs = [host.payload({"organization_id": f"org-{n % ORGANIZATIONS}", "actor_id": n}) for n in range(JOBS)]
    return host, jobs


def every_row_is_its_own_jobs(host: Host, jobs: list[Payload], outcomes: list[Any]) -> None:
    assert outcomes == [Complete(job.args["organization_id"]) for job in jobs]
    by_id = {job.id: job for job in jobs}
    assert len(host.events) == 3 * JOBS
    for event in host.events:
        assert event.job_id is not None
        job = by_id[event.job_id]
        organization = job.args["organization_id"]
        assert (event.organization_id, event.actor_id) == (organization, job.args["actor_id"])
        assert event.metadata == {"tenant": organization, "organization": organization, "job": job.id}
    assert (TENANT.get(), current_job()) == (None, None)


KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
BUILDERS = pytest.mark.parametrize("builder", [None, "def", "async def"])


@KINDS
@BUILDERS
def test_audit_rows_of_many_threads_are_their_own_jobs(kind: Kind, builder: Kind | None) -> None:
    host, jobs = host_of_many(kind, builder)
    left: set[object] = set()

    def work(job: Payload) -> Any:
        outcome = dispatch(host.workers, Delivery(job.dump()))
        left.update((TENANT.get(), current_job()))
        return outcome

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(work, jobs))
    every_row_is_its_own_jobs(host, jobs, outcomes)
    assert left == {None}


@KINDS
@BUILDERS
def test_audit_rows_of_one_event_loop_are_their_own_jobs(kind: Kind, builder: Kind | None) -> None:
    host, jobs = host_of_many(kind, builder)

    async def main() -> list[Any]:
        return await asyncio.gather(*(adispatch(host.workers, Delivery(job.dump())) for job in jobs))

    every_row_is_its_own_jobs(host, jobs, asyncio.run(main()))


def test_a_job_within_a_job_gives_the_outer_one_back() -> None:
    host = Host()
    seen: list[tuple[str, str]] = []

    def perform(scope: Any, args: Any) -> Ok[None]:
        if args["actor_id"] == "outer":
            dispatch(host.workers, Delivery(host.payload({**args, "actor_id": "inner"}).dump()))
        job = current_job()
        assert job is not None
        seen.append((args["actor_id"], job.id))
        return Ok()

    host.exact(perform)
    outer = host.payload({"organization_id": "org-1", "actor_id": "outer"})
    host.deliver(outer)
    assert [name for name, _ in seen] == ["inner", "outer"]
    assert seen[1] == ("outer", outer.id)


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, ValueError])
def test_a_thread_that_ran_a_failing_job_shows_nothing_of_it_to_the_next(end: type[BaseException]) -> None:
    host = Host()
    found: list[object] = []

    def perform(scope: Any, args: Any) -> Ok[None]:
        found.append(TENANT.get())
        TENANT.set(args["organization_id"])
        raise end

    host.exact(perform)

    def work() -> None:
        for _ in range(3):
            try:
                host.run()
            except KeyboardInterrupt:
                continue
        found.append(TENANT.get())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None] * 4
