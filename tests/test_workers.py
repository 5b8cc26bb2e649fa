"""Workers: its options, and sending jobs through any adapter."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support import KEYS, NOW, Told

from sigra_workers import (
    Adapter,
    AdapterNotFoundError,
    Audit,
    AuditScope,
    AuditScopeBuilder,
    Capability,
    Duplicate,
    DuplicateJobError,
    EnqueueError,
    InvalidArgsError,
    InvalidOptionError,
    InvalidSettingsError,
    InvalidWorkerError,
    Job,
    JobRef,
    MemorySink,
    NotFoundError,
    Outgoing,
    Payload,
    Receipt,
    Rejected,
    Sent,
    TenantArgs,
    Unknown,
    UnknownQueueError,
    WorkerHandle,
    Workers,
    hookimpl,
    load_workers,
)
from sigra_workers.memory import HeldClock, MemoryAdapter
from sigra_workers.workers import BATCH, _after_fork

DOWN = ConnectionError("the server is down")


@dataclass
class Scripted:
    """An adapter, and the plugin that makes it: answers as told, `Sent` where nothing is said."""

    answers: Mapping[str, Receipt] = field(default_factory=dict[str, Receipt])
    batches: list[Sequence[Outgoing]] = field(default_factory=list[Sequence[Outgoing]])
    checked: list[Job[Any]] = field(default_factory=list[Job[Any]])
    made: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    closed: list[int] = field(default_factory=list[int])

    capabilities: frozenset[Capability] = frozenset()

    @hookimpl
    def sigra_adapter(self, name: str, settings: Mapping[str, Any]) -> Adapter | None:
        if name != "scripted":
            return None
        self.made.append(settings)
        return self

    def clock(self) -> float:
        return NOW

    def check(self, job: Job[Any]) -> None:
        self.checked.append(job)
        if job.native:
            raise InvalidOptionError("native", "this queue has none")

    def send(self, jobs: Sequence[Outgoing], /) -> Sequence[Receipt]:
        self.batches.append(jobs)
        return [self.answers.get(sent.job.id, Sent()) for sent in jobs]

    async def asend(self, jobs: Sequence[Outgoing], /) -> Sequence[Receipt]:
        await asyncio.sleep(0)
        return self.send(jobs)

    def close(self) -> None:
        self.closed.append(threading.get_ident())


class Sender:
    """Workers on a scripted adapter, with one handle and all that is told of it."""

    def __init__(self, **answers: Receipt) -> None:
        self.adapter = Scripted(answers)
        self.told = Told()
        self.workers = Workers[AuditScope](adapter="scripted", plugins=[self.adapter, self.told])
        self.handle: WorkerHandle[AuditScope, TenantArgs, object]
        self.handle = self.workers.declare("accounts.close", TenantArgs)

    def jobs(self, *ids: str) -> list[Job[TenantArgs]]:
        return [self.handle.new(KEYS, job_id=job_id) for job_id in ids]

    def enqueue_many(self, way: str, jobs: Any, **options: Any) -> list[JobRef]:
        if way == "sync":
            return self.workers.enqueue_many(jobs, **options)
        return asyncio.run(self.workers.aenqueue_many(jobs, **options))

    @property
    def sent(self) -> list[str]:
        return [sent.job.id for batch in self.adapter.batches for sent in batch]

    @property
    def announced(self) -> list[str]:
        return [told["job"].id for name, told in self.told.calls if name == "enqueued"]


def ids(refs: Sequence[JobRef]) -> list[str]:
    return [ref.id for ref in refs]


both = pytest.mark.parametrize("way", ["sync", "async"])

# -- options -------------------------------------------------------------------------------------------


def test_workers_begin_embedded_with_the_audit_scope() -> None:
    workers = Workers[AuditScope]()
    assert (workers.adapter_name, workers.queues, workers.handles) == ("memory", [], [])
    assert isinstance(workers.scope_builder, AuditScopeBuilder)
    assert workers.unknown_worker_grace == 3_600


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("adaptor", "rq"),
        ("queues", "mail"),
        ("queues", 5),
        ("queues", ["a b"]),
        ("cancel_on", [int]),
        ("unknown_worker_grace", -1),
        ("unknown_worker_grace", "1h"),
        ("max_args_bytes", 0),
        ("max_args_bytes", "1 MB"),
        ("max_args_bytes", True),
    ],
)
def test_an_option_that_is_unknown_or_cannot_be_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        Workers(**{option: value})
    assert caught.value.option == option


@pytest.mark.parametrize("builder", [AuditScopeBuilder, object(), lambda args: None, 0])
def test_a_scope_builder_that_cannot_build_is_refused(builder: Any) -> None:
    with pytest.raises(InvalidWorkerError, match=r"a scope builder is an object with build\(args\)"):
        Workers(scope_builder=builder)


def test_a_facade_of_the_host_is_used_for_the_audit() -> None:
    audit = Audit(MemorySink())
    assert Workers(audit=audit).audit is audit


def test_the_size_of_args_is_a_setting() -> None:
    handle = Workers[AuditScope](max_args_bytes=60).declare("a", TenantArgs)
    assert handle.new(KEYS).args == KEYS
    with pytest.raises(InvalidArgsError, match="bytes as JSON, at most 60 are allowed"):
        handle.new({**KEYS, "actor_id": "x" * 60})


# -- queues --------------------------------------------------------------------------------------------


def test_queues_are_those_of_the_handles_and_those_named() -> None:
    workers = Workers[AuditScope](queues=["mail", "slow"])
    handle = workers.declare("a", TenantArgs, queue="fast")
    assert workers.queues == ["fast", "mail", "slow"]
    assert handle.new(KEYS, queue="mail").queue == "mail"


@pytest.mark.parametrize("queue", ["other", "", None, 5])
def test_a_queue_that_nobody_reads_is_refused_with_those_that_are_read(queue: Any) -> None:
    handle = Workers[AuditScope](queues=["mail"]).declare("a", TenantArgs)
    with pytest.raises(UnknownQueueError) as caught:
        handle.new(KEYS, queue=queue)
    assert (caught.value.queue, caught.value.known) == (queue, ("default", "mail"))


# -- the adapter ---------------------------------------------------------------------------------------


def test_making_workers_and_jobs_makes_no_adapter() -> None:
    sender = Sender()
    sender.handle.new(KEYS)
    assert sender.adapter.made == []


def test_the_adapter_is_made_once_with_the_settings() -> None:
    scripted = Scripted()
    settings = {"url": "redis://"}
    workers = Workers[AuditScope](adapter="scripted", settings=settings, plugins=[scripted])
    settings["url"] = "changed"
    adapters: list[object] = [workers.adapter, workers.adapter]
    assert adapters == [scripted, scripted]
    assert scripted.made == [{"url": "redis://"}]


def test_an_adapter_that_is_not_installed_is_an_error_with_the_install_command() -> None:
    handle = Workers[AuditScope](adapter="kafka").declare("a", TenantArgs)
    with pytest.raises(AdapterNotFoundError, match=r"pip install 'sigra-workers\[kafka\]'") as caught:
        handle.enqueue(KEYS)
    assert caught.value.adapter == "kafka"
    assert "memory" in caught.value.found


def test_the_adapter_checks_jobs_with_a_given_id_or_native_options_and_no_others() -> None:
    sender = Sender()
    sender.handle.new(KEYS)
    given = sender.handle.new(KEYS, job_id="job-1")
    assert sender.adapter.checked == [given]
    with pytest.raises(InvalidOptionError, match="this queue has none"):
        sender.handle.new(KEYS, native={"priority": 1})


def test_native_options_reach_the_adapter_as_a_copy() -> None:
    class Native(Scripted):
        def check(self, job: Job[Any]) -> None:
            self.checked.append(job)

    native = Native()
    handle = Workers[AuditScope](adapter="scripted", plugins=[native]).declare("a", TenantArgs)
    options = {"priority": 1}
    handle.enqueue(KEYS, native=options)
    options["priority"] = 2
    assert native.batches[0][0].job.native == {"priority": 1}


@pytest.mark.parametrize("native", [None, 5, ["priority"]])
def test_native_options_that_are_no_mapping_are_refused(native: Any) -> None:
    with pytest.raises(InvalidOptionError, match="'native': expected a mapping of names"):
        Sender().handle.new(KEYS, native=native)


def test_a_queue_that_is_no_name_is_refused_as_one_that_nobody_reads() -> None:
    queue: Any = ["a"]
    with pytest.raises(UnknownQueueError, match="no worker is declared for queue"):
        Sender().handle.new(KEYS, queue=queue)


def test_a_process_that_is_forked_while_a_thread_makes_the_adapter_makes_its_own() -> None:
    code = """
import os, sys
from sigra_workers import Workers
workers = Workers()
with workers._making:  # as by a thread that forks in between
    child = os.fork()
    if child == 0:
        os._exit(0 if workers.adapter else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_forked_process_waits_for_no_thread_of_its_parents() -> None:
    workers = Workers[AuditScope]()
    with workers._making:
        _after_fork()
        assert workers._making.acquire(blocking=False)
        workers._making.release()
        assert workers.adapter is not None


def test_a_memory_adapter_is_only_found_where_it_is_used() -> None:
    with pytest.raises(InvalidSettingsError, match="these workers use adapter 'scripted'"):
        MemoryAdapter.of(Sender().workers)


# -- sending -------------------------------------------------------------------------------------------


def test_a_job_is_sent_as_it_was_made_and_as_it_travels() -> None:
    sender = Sender()
    job = sender.handle.new(KEYS, schedule_in=60)
    ref = sender.workers.enqueue(job)
    ((out,),) = sender.adapter.batches
    assert out.job is job
    assert out.payload == job.payload(NOW)
    assert Payload.parse(out.payload.dump()) == out.payload
    assert ref == out.payload.ref()


@both
def test_refs_come_back_in_the_order_of_the_jobs_and_each_is_told_once(way: str) -> None:
    sender = Sender()
    refs = sender.enqueue_many(way, sender.jobs("a", "b", "c"))
    assert ids(refs) == sender.sent == sender.announced == ["a", "b", "c"]
    assert not any(ref.duplicate for ref in refs)


def test_the_enqueued_hook_is_told_the_organization() -> None:
    sender = Sender()
    ref = sender.handle.enqueue({"organization_id": 7, "actor_id": None})
    assert sender.told.calls == [("enqueued", {"job": ref, "organization_id": 7})]


@both
def test_no_jobs_are_nothing_to_send(way: str) -> None:
    sender = Sender()
    assert sender.enqueue_many(way, []) == []
    assert sender.adapter.batches == []


@both
def test_many_jobs_go_in_batches(way: str) -> None:
    sender = Sender()
    jobs = [sender.handle.new(KEYS) for _ in range(2 * BATCH + 1)]
    refs = sender.enqueue_many(way, iter(jobs))
    assert [len(batch) for batch in sender.adapter.batches] == [BATCH, BATCH, 1]
    assert ids(refs) == [job.id for job in jobs]


@both
def test_an_iterable_that_raises_half_way_sends_nothing(way: str) -> None:
    sender = Sender()

    def made() -> Iterator[Job[TenantArgs]]:
        for _ in range(BATCH):
            yield sender.handle.new(KEYS)
        bad: Any = {}
        yield sender.handle.new(bad)

    with pytest.raises(InvalidArgsError):
        sender.enqueue_many(way, made())
    assert sender.sent == []


@both
def test_a_partial_failure_names_every_job_by_what_became_of_it(way: str) -> None:
    sender = Sender(b=Rejected(DOWN), c=Unknown(TimeoutError()), d=Duplicate())
    with pytest.raises(EnqueueError) as caught:
        sender.enqueue_many(way, sender.jobs("a", "b", "c", "d", "e"))
    error = caught.value
    assert type(error) is EnqueueError
    assert (error.accepted, error.rejected, error.unknown) == (("a", "e"), ("b", "d"), ("c",))
    assert isinstance(error.__cause__, TimeoutError)
    assert sender.announced == ["a", "e"]


@both
def test_after_a_failed_batch_nothing_more_is_sent_and_the_rest_counts_as_rejected(way: str) -> None:
    sender = Sender(j3=Unknown(DOWN))
    jobs = sender.jobs(*(f"j{n}" for n in range(BATCH + 2)))
    with pytest.raises(EnqueueError) as caught:
        sender.enqueue_many(way, jobs)
    error = caught.value
    assert (len(error.accepted), error.unknown) == (BATCH - 1, ("j3",))
    assert error.rejected == (f"j{BATCH}", f"j{BATCH + 1}")
    assert len(sender.adapter.batches) == 1


@both
def test_jobs_of_earlier_batches_stay_accepted(way: str) -> None:
    sender = Sender(last=Rejected(DOWN))
    jobs = [*sender.jobs(*(f"j{n}" for n in range(BATCH))), *sender.jobs("last")]
    with pytest.raises(EnqueueError) as caught:
        sender.enqueue_many(way, jobs)
    assert (len(caught.value.accepted), caught.value.rejected) == (BATCH, ("last",))
    assert caught.value.__cause__ is DOWN


@both
def test_a_duplicate_is_an_error_of_its_own(way: str) -> None:
    sender = Sender(b=Duplicate())
    with pytest.raises(DuplicateJobError) as caught:
        sender.enqueue_many(way, sender.jobs("a", "b"))
    error = caught.value
    assert (error.accepted, error.rejected, error.duplicates) == (("a",), ("b",), ("b",))
    assert error.__cause__ is None


@both
def test_a_duplicate_is_told_apart_from_the_jobs_behind_it_that_were_not_sent(way: str) -> None:
    sender = Sender(j0=Duplicate())
    with pytest.raises(DuplicateJobError) as caught:
        sender.enqueue_many(way, sender.jobs(*(f"j{n}" for n in range(BATCH)), "behind"))
    assert caught.value.duplicates == ("j0",)
    assert caught.value.rejected == ("j0", "behind")
    assert str(caught.value).startswith("a job with id 'j0' exists already;")


@both
def test_duplicates_are_skipped_on_demand_and_marked(way: str) -> None:
    sender = Sender(b=Duplicate())
    refs = sender.enqueue_many(way, sender.jobs("a", "b", "c"), on_duplicate="skip")
    assert [(ref.id, ref.duplicate) for ref in refs] == [("a", False), ("b", True), ("c", False)]
    assert sender.announced == ["a", "c"]


@both
def test_a_skipped_duplicate_is_not_accepted_where_others_fail(way: str) -> None:
    sender = Sender(a=Duplicate(), c=Rejected(DOWN))
    with pytest.raises(EnqueueError) as caught:
        sender.enqueue_many(way, sender.jobs("a", "b", "c"), on_duplicate="skip")
    assert (caught.value.accepted, caught.value.rejected) == (("b",), ("c",))


@pytest.mark.parametrize(
    ("answer", "facts"), [(Rejected(DOWN), ((), ("a",), ())), (Unknown(DOWN), ((), (), ("a",)))]
)
def test_one_job_that_fails_raises_and_is_never_a_value_to_be_dropped(answer: Receipt, facts: Any) -> None:
    sender = Sender(a=answer)
    (job,) = sender.jobs("a")
    with pytest.raises(EnqueueError) as caught:
        sender.workers.enqueue(job)
    with pytest.raises(EnqueueError) as acaught:
        asyncio.run(sender.workers.aenqueue(job))
    for error in (caught.value, acaught.value):
        assert (error.accepted, error.rejected, error.unknown) == facts


@pytest.mark.parametrize("answers", [[Sent()], [Sent(), None]])
def test_an_adapter_that_does_not_answer_for_each_job_is_no_silent_loss(answers: Any) -> None:
    class Short(Scripted):
        def send(self, jobs: Sequence[Outgoing], /) -> Sequence[Receipt]:
            return answers  # type: ignore[no-any-return]

    workers = Workers[AuditScope](adapter="scripted", plugins=[Short()])
    handle = workers.declare("a", TenantArgs)
    with pytest.raises((ValueError, AttributeError)):
        workers.enqueue_many([handle.new(KEYS), handle.new(KEYS)])


# -- life ----------------------------------------------------------------------------------------------


def test_with_closes_what_was_opened_and_a_later_enqueue_opens_it_again() -> None:
    sender = Sender()
    with sender.workers as workers:
        workers.enqueue(sender.handle.new(KEYS, job_id="a"))
    assert len(sender.adapter.closed) == 1
    sender.handle.enqueue(KEYS, job_id="b")
    assert sender.sent == ["a", "b"]


def test_with_closes_also_when_the_block_raises() -> None:
    sender = Sender()
    sender.handle.enqueue(KEYS)
    with suppress(RuntimeError), sender.workers:
        raise RuntimeError
    assert len(sender.adapter.closed) == 1


def test_async_with_closes_without_blocking_the_loop() -> None:
    sender = Sender()

    async def main() -> None:
        async with sender.workers as workers:
            await workers.aenqueue(sender.handle.new(KEYS))

    asyncio.run(main())
    assert len(sender.adapter.closed) == 1
    assert threading.get_ident() not in sender.adapter.closed


def test_closing_what_was_never_opened_opens_nothing() -> None:
    sender = Sender()
    sender.workers.close()
    assert (sender.adapter.made, sender.adapter.closed) == ([], [])


def test_a_clock_that_is_held_decides_when_a_job_was_enqueued() -> None:
    clock = HeldClock(NOW)
    handle = Workers[AuditScope](settings={"clock": clock}).declare("a", TenantArgs)
    clock.advance(5)
    ref = handle.enqueue(KEYS, schedule_in=10)
    assert ref.due_at is not None
    assert ref.due_at.timestamp() == NOW + 15


# -- load_workers --------------------------------------------------------------------------------------


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of a host, and its name."""
    package = tmp_path / "loaded_app"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jobs.py").write_text(
        "from sigra_workers import Workers\n"
        "workers = Workers()\n"
        "class Container:\n    workers = workers\n"
        "other = 5\n"
    )
    (package / "broken.py").write_text("import there_is_no_such_library\n")
    (package / "raises.py").write_text("raise RuntimeError('no database')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "loaded_app"
    for name in [name for name in sys.modules if name.split(".")[0] == "loaded_app"]:
        del sys.modules[name]


def test_workers_are_loaded_by_module_and_attribute(app: str) -> None:
    found = load_workers(f"{app}.jobs:workers")
    assert isinstance(found, Workers)
    assert load_workers(f"{app}.jobs:Container.workers") is found


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "expected module:attribute"),
        ("{}.jobs", "expected module:attribute"),
        ("{}.jobs:", "expected module:attribute"),
        (":workers", "expected module:attribute"),
        (".jobs:workers", "expected module:attribute"),
        ("{}.nowhere:workers", r"there is no module '.*\.nowhere'"),
        ("no_such_app.jobs:workers", "there is no module 'no_such_app'"),
        ("{}.jobs.deeper:workers", "there is no module"),
        ("{}.jobs:worker", r"its Workers are \['workers'\]"),
        ("{}.jobs:other", "has no such object"),
        ("{}.jobs:other.workers", "has no such object"),
        ("{}.jobs:Container", "has no such object"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ended(app: str, path: str, problem: str) -> None:
    path = path.format(app)
    with pytest.raises(NotFoundError, match=problem) as caught:
        load_workers(path)
    assert caught.value.path == path


def test_what_a_module_of_the_host_raises_is_not_hidden(app: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_library"):
        load_workers(f"{app}.broken:workers")
    with pytest.raises(RuntimeError, match="no database"):
        load_workers(f"{app}.raises:workers")


def test_an_import_error_without_a_name_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "nameless_app":
                raise ModuleNotFoundError("refused")

    monkeypatch.setattr(sys, "meta_path", [Refuses(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match="refused"):
        load_workers("nameless_app:workers")


def test_a_bare_sink_as_audit_is_refused() -> None:
    options: Any = {"audit": MemorySink()}
    with pytest.raises(InvalidSettingsError, match=r"expected Audit\(sink\)"):
        Workers(**options)


def test_what_is_no_job_is_refused_before_anything_is_sent() -> None:
    no_job: Any = {"organization_id": None, "actor_id": None}
    with pytest.raises(InvalidArgsError, match=r"expected a Job: handle.new\(args\)"):
        Workers().enqueue(no_job)


def test_one_job_twice_in_bulk_is_refused_before_anything_is_sent() -> None:
    workers = Workers[AuditScope]()
    job = workers.declare("accounts.close", TenantArgs).new(KEYS)
    with pytest.raises(InvalidOptionError, match="is there twice"):
        workers.enqueue_many([job, job])
    assert MemoryAdapter.of(workers).payloads == []


def test_a_job_for_a_queue_of_another_application_is_refused() -> None:
    job = Workers[AuditScope]().declare("accounts.close", TenantArgs, queue="theirs").new(KEYS)
    with pytest.raises(UnknownQueueError, match="'theirs'"):
        Workers[AuditScope]().enqueue(job)


def test_an_unknown_way_with_duplicates_is_refused() -> None:
    wrong: Any = "ignore"
    with pytest.raises(InvalidOptionError, match="expected 'raise' or 'skip'"):
        Workers[AuditScope]().enqueue_many([], on_duplicate=wrong)
