"""Log records: the running job in them, in every place that can log, and never another's."""

import asyncio
import contextvars
import logging
import logging.handlers
import queue
import random
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import pytest
import structlog
from tests.support import KEYS, MODES, Builder, Host, Mode

from sigra_workers import (
    AuditScopeBuilder,
    Cancel,
    Delivery,
    Error,
    Ok,
    Snooze,
    adispatch,
    hookimpl,
)
from sigra_workers.dispatch import begin
from sigra_workers.logs import JobFields, JobLogFilter, job_fields
from sigra_workers.loops import in_thread
from sigra_workers.memory import MemoryAdapter

NOBODY: Final = (None, None, None, None)
LOG: Final = logging.getLogger("app.accounts")
Found = tuple[Any, ...]


class Kept(logging.Handler):
    """A handler that keeps what the filter added to each record."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(JobLogFilter())
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, message: str) -> list[Found]:
        """The fields of the records with that message."""
        return [fields(record) for record in self.records if record.getMessage() == message]


def fields(record: Any) -> Found:
    return (record.job_id, record.worker, record.organization_id, record.attempt)


@contextmanager
def handling(handler: logging.Handler) -> Generator[None]:
    """Have the handler get every record for a block."""
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


@pytest.fixture
def kept() -> Generator[Kept]:
    handler = Kept()
    with handling(handler):
        yield handler


@pytest.fixture(params=MODES, ids="-".join)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


class Logs:
    """A plugin whose hooks log."""

    @hookimpl
    def sigra_started(self) -> None:
        LOG.info("started")

    @hookimpl
    def sigra_finished(self) -> None:
        LOG.info("finished")

    @hookimpl
    def sigra_dead(self) -> None:
        LOG.info("dead")


def logging_host(mode: Mode, result: Any = None) -> Host:
    """A host that logs wherever it can, whose worker ends with `result`."""

    def build(args: Any) -> Any:
        LOG.info("builder")
        return AuditScopeBuilder().build(args)

    made = Host(mode, plugins=(Logs(),), scope_builder=Builder(mode.kind, build))

    @made.workers.around
    def around(job: Any, scope: Any, args: Any) -> Generator[None]:
        LOG.info("entered")
        yield
        LOG.info("left")

    def perform(scope: Any, args: Any) -> Any:
        LOG.info("performed")
        return Ok() if result is None else result

    return made.worker(perform, backoff=1)


PLACES: Final = ("started", "builder", "entered", "performed", "left", "finished")


def test_every_place_of_a_run_logs_its_job(kept: Kept, mode: Mode) -> None:
    made = logging_host(mode)
    payload = made.payload().again(None, attempt=3)
    LOG.info("before")
    made.deliver(payload)
    LOG.info("behind")
    job = (payload.id, "accounts.close", "org-1", 3)
    assert {place: kept.of(place) for place in PLACES} == {place: [job] for place in PLACES}
    assert (kept.of("before"), kept.of("behind")) == ([NOBODY], [NOBODY])


@pytest.mark.parametrize("result", [Ok(), Error("no"), Snooze(5), Cancel("no"), None, "no result"])
def test_no_ending_leaves_its_job_to_what_is_logged_next(kept: Kept, mode: Mode, result: Any) -> None:
    made = logging_host(mode, result)
    first, second = made.payload(), made.payload({**KEYS, "organization_id": 7})
    for payload in (first, second):
        made.deliver(payload)
        LOG.info("between")
    assert kept.of("performed") == [
        (first.id, "accounts.close", "org-1", 1),
        (second.id, "accounts.close", 7, 1),
    ]
    assert kept.of("between") == [NOBODY, NOBODY]


def test_a_job_that_dies_before_it_runs_is_in_what_its_hook_logs(kept: Kept, mode: Mode) -> None:
    made = logging_host(mode)
    payload = made.payload(max_attempts=2)
    made.deliver(payload, crashes=2)
    assert kept.of("dead") == [(payload.id, "accounts.close", "org-1", 2)]
    assert not kept.of("performed")


def test_what_the_library_logs_of_a_run_names_its_job(kept: Kept, mode: Mode) -> None:
    made = logging_host(mode, Error("no"))
    payload = made.payload()
    made.deliver(payload)
    (warning,) = (record for record in kept.records if record.name == "sigra_workers")
    assert fields(warning) == (payload.id, "accounts.close", "org-1", 1)


def test_a_job_of_no_organization_is_named_without_one(kept: Kept) -> None:
    made = logging_host(MODES[0])
    payload = made.payload({"organization_id": None, "actor_id": None})
    made.deliver(payload)
    assert kept.of("performed") == [(payload.id, "accounts.close", None, 1)]


def test_a_worker_that_changes_its_args_does_not_change_whom_its_records_name(kept: Kept) -> None:
    def perform(scope: Any, args: Any) -> Any:
        args["organization_id"] = "org-2"
        LOG.info("performed")
        return Ok()

    made = Host().worker(perform)
    made.run()
    assert [found[2] for found in kept.of("performed")] == ["org-1"]


def test_a_job_inside_of_a_job_is_named_until_it_is_over(kept: Kept) -> None:
    inner = logging_host(MODES[0])
    ref = inner.handle.enqueue(KEYS)

    def perform(scope: Any, args: Any) -> Any:
        LOG.info("outer")
        MemoryAdapter.of(inner.workers).drain()
        LOG.info("outer")
        return Ok()

    made = Host().worker(perform)
    payload = made.payload()
    made.deliver(payload)
    assert [found[0] for found in kept.of("outer")] == [payload.id, payload.id]
    assert [found[0] for found in kept.of("performed")] == [ref.id]


def test_jobs_that_run_side_by_side_in_threads_log_each_its_own(kept: Kept) -> None:
    def perform(scope: Any, args: Any) -> Any:
        for _ in range(3):
            LOG.info(args["organization_id"])
            time.sleep(random.random() / 1_000)
        return Ok()

    made = Host().worker(perform)
    payloads = [made.payload({"organization_id": f"org-{n}", "actor_id": n}) for n in range(60)]
    with ThreadPoolExecutor(8) as threads:
        assert len([*threads.map(made.deliver, payloads)]) == len(payloads)
    for payload in payloads:
        organization = str(payload.organization_id)
        assert kept.of(organization) == [(payload.id, "accounts.close", organization, 1)] * 3


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_jobs_that_run_side_by_side_on_a_loop_log_each_its_own(kept: Kept, kind: Any) -> None:
    async def aperform(scope: Any, args: Any) -> Any:
        for _ in range(2):
            LOG.info(args["organization_id"])
            await asyncio.sleep(random.random() / 1_000)
        await in_thread(LOG.info, args["organization_id"])
        return Ok()

    def perform(scope: Any, args: Any) -> Any:
        for _ in range(3):
            LOG.info(args["organization_id"])
            time.sleep(random.random() / 1_000)
        return Ok()

    made = Host().exact(perform if kind == "def" else aperform)
    payloads = [made.payload({"organization_id": f"org-{n}", "actor_id": n}) for n in range(60)]

    async def run_all() -> None:
        await asyncio.gather(*(adispatch(made.workers, Delivery(payload.dump())) for payload in payloads))

    asyncio.run(run_all())
    for payload in payloads:
        organization = str(payload.organization_id)
        assert kept.of(organization) == [(payload.id, "accounts.close", organization, 1)] * 3


def test_what_a_record_has_already_is_kept(kept: Kept) -> None:
    def perform(scope: Any, args: Any) -> Any:
        LOG.info("performed", extra={"worker": "the host's own"})
        return Ok()

    made = Host().worker(perform)
    payload = made.payload()
    made.deliver(payload)
    assert kept.of("performed") == [(payload.id, "the host's own", "org-1", 1)]


def test_a_record_that_another_thread_writes_names_the_job_that_logged_it() -> None:
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    front, behind = logging.handlers.QueueHandler(waiting), Kept()
    front.addFilter(JobLogFilter())
    made = logging_host(MODES[0])
    with handling(front):
        payload = made.payload()
        made.deliver(payload)
    listener = logging.handlers.QueueListener(waiting, behind)
    listener.start()
    listener.stop()
    assert behind.of("performed") == [(payload.id, "accounts.close", "org-1", 1)]


def test_a_format_may_name_the_fields_outside_of_any_job(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter("%(message)s %(job_id)s %(worker)s %(organization_id)s %(attempt)s")
    )
    handler.addFilter(JobLogFilter())
    with handling(handler):
        LOG.info("hello")
    assert capsys.readouterr().err == "hello None None None None\n"


def test_the_filter_and_the_fields_hold_nothing_of_the_args(kept: Kept) -> None:
    made = logging_host(MODES[0])
    made.run({**KEYS, "token": "s3cr3t"})
    assert (
        {*JobFields.__annotations__} == {*job_fields()} == {"job_id", "worker", "organization_id", "attempt"}
    )
    assert "s3cr3t" not in repr([vars(record) for record in kept.records])


def test_a_run_shows_no_args_where_a_tool_prints_variables() -> None:
    made = Host().worker(lambda *_: Ok())
    payload = made.payload({**KEYS, "token": "s3cr3t"})
    run = contextvars.copy_context().run(begin, made.workers, Delivery(payload.dump()))
    assert "s3cr3t" not in repr(run)


def test_a_thread_that_host_code_starts_names_no_job(kept: Kept) -> None:
    def perform(scope: Any, args: Any) -> Any:
        thread = threading.Thread(target=LOG.info, args=("elsewhere",))
        thread.start()
        thread.join()
        return Ok()

    Host().worker(perform).run()
    assert kept.of("elsewhere") == [NOBODY]


def test_a_structlog_processor_adds_the_fields() -> None:
    def add_job(logger: object, method: str, event: Any) -> Any:
        return {**job_fields(), **event}

    captured = structlog.testing.CapturingLogger()
    log = structlog.wrap_logger(captured, processors=[add_job, structlog.processors.KeyValueRenderer()])

    def perform(scope: Any, args: Any) -> Any:
        log.info("performed")
        return Ok()

    made = Host().worker(perform)
    payload = made.payload()
    made.deliver(payload)
    log.info("behind")
    (job,), (nobody,) = (call.args for call in captured.calls)
    facts = "worker='accounts.close' organization_id='org-1' attempt=1"
    assert job == f"job_id='{payload.id}' {facts} event='performed'"
    assert nobody == "job_id=None worker=None organization_id=None attempt=None event='behind'"
