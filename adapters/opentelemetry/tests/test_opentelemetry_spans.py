"""Spans of jobs: what they say, what they are joined to, and for whom they are the current one."""

import asyncio
import random
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from adapters.opentelemetry.tests.support import Traced, context, endings, facts, linked
from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import attach, detach
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tests.support import KEYS, MODES, Builder, Host, Mode, after, completed

from sigra_workers import (
    AuditScopeBuilder,
    Cancel,
    Delivery,
    DuplicateJobError,
    EnqueueError,
    Error,
    Ok,
    Rejected,
    Snooze,
    TenantArgs,
    Unknown,
    adispatch,
    hookimpl,
)
from sigra_workers.memory import MemoryAdapter
from sigra_workers_opentelemetry import OpenTelemetry, plugin

SECRET: Final = "s3cr3t"
NO_SPAN: Final = 0


@pytest.fixture(params=MODES, ids="-".join)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


def current() -> int:
    """The id of the current span."""
    return trace.get_current_span().get_span_context().span_id


# -- sending ---------------------------------------------------------------------------------------------


def test_a_job_that_is_sent_has_a_span() -> None:
    host = Traced().worker(after(bool, Ok()), queue="lifecycle")
    ref = host.handle.enqueue(KEYS)
    span = host.the("enqueue")
    assert (span.name, span.kind, span.status.status_code) == (
        "enqueue lifecycle",
        SpanKind.PRODUCER,
        StatusCode.UNSET,
    )
    assert facts(span) == {
        "messaging.system": "memory",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "lifecycle",
        "messaging.message.id": ref.id,
        "sigra.worker": "accounts.close",
        "sigra.organization": "org-1",
    }


def test_a_batch_has_one_span_that_all_of_its_jobs_link_to() -> None:
    host = Traced().worker(after(bool, Ok()))
    host.workers.enqueue_many([host.handle.new(KEYS) for _ in range(3)])
    host.queue.drain()
    span = host.the("enqueue")
    assert facts(span) == {
        "messaging.system": "memory",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "default",
        "messaging.batch.message_count": 3,
        "sigra.worker": "accounts.close",
        "sigra.organization": "org-1",
    }
    assert [linked(run) for run in host.named("perform")] == [[context(span).span_id]] * 3


def test_a_batch_says_only_what_is_true_of_all_of_its_jobs() -> None:
    host = Traced().worker(after(bool, Ok()))
    other = host.workers.declare("accounts.open", TenantArgs, queue="other")
    host.workers.enqueue_many([host.handle.new(KEYS), other.new({**KEYS, "organization_id": "org-2"})])
    span = host.the("enqueue")
    assert span.name == "enqueue"
    assert facts(span) == {
        "messaging.system": "memory",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 2,
    }


def test_the_span_of_sending_is_in_the_trace_of_the_sender_and_is_over_behind_it() -> None:
    host = Traced().worker(after(bool, Ok()))
    seen: list[int] = []
    send = host.queue.send

    def watched(jobs: Any) -> Any:
        seen.append(current())
        return send(jobs)

    host.queue.send = watched  # type: ignore[method-assign]
    with host.tracers.get_tracer("web").start_as_current_span("request") as request:
        host.handle.enqueue(KEYS)
        assert current() == request.get_span_context().span_id
    span = host.the("enqueue")
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id
    assert seen == [context(span).span_id]


def test_a_job_that_is_sent_from_a_loop_has_a_span() -> None:
    host = Traced().worker(after(bool, Ok()))
    asyncio.run(host.handle.aenqueue(KEYS))
    host.queue.drain()
    assert linked(host.the("perform")) == [context(host.the("enqueue")).span_id]


@pytest.mark.parametrize("receipt", [Rejected(ConnectionError(SECRET)), Unknown(ConnectionError(SECRET))])
def test_what_was_not_surely_sent_is_an_error_of_its_span(receipt: Any) -> None:
    host = Traced().worker(after(bool, Ok()))
    host.queue.send = lambda jobs: [receipt for _ in jobs]  # type: ignore[method-assign]
    with pytest.raises(EnqueueError):
        host.handle.enqueue(KEYS)
    span = host.the("enqueue")
    assert span.status.status_code is StatusCode.ERROR
    assert facts(span)["error.type"] == "ConnectionError"
    assert SECRET not in span.to_json()


def test_a_duplicate_is_no_error_of_its_span() -> None:
    host = Traced().worker(after(bool, Ok()))
    host.handle.enqueue(KEYS, job_id="one")
    with pytest.raises(DuplicateJobError):
        host.handle.enqueue(KEYS, job_id="one")
    assert [span.status.status_code for span in host.named("enqueue")] == [StatusCode.UNSET] * 2


def test_a_sender_that_is_stopped_ends_its_span() -> None:
    host = Traced().worker(after(bool, Ok()))

    async def never(_: Any) -> Any:
        await asyncio.sleep(60)

    async def stop() -> None:
        sending = asyncio.create_task(host.handle.aenqueue(KEYS))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    host.queue.asend = never  # type: ignore[method-assign]
    asyncio.run(stop())
    span = host.the("enqueue")
    assert (span.status.status_code, facts(span)["error.type"]) == (StatusCode.ERROR, "stopped")


# -- running ---------------------------------------------------------------------------------------------


def test_a_run_has_a_span_that_links_to_the_one_that_sent_its_job(mode: Mode) -> None:
    host = Traced(mode).worker(after(bool, Ok()), queue="lifecycle")
    ref = host.handle.enqueue(KEYS)
    (waiting,) = host.queue.payloads
    completed(host.deliver(waiting))
    sent, run = host.the("enqueue"), host.the("perform")
    assert (run.name, run.kind, run.status.status_code) == (
        "perform lifecycle",
        SpanKind.CONSUMER,
        StatusCode.UNSET,
    )
    assert linked(run) == [context(sent).span_id]
    assert run.parent is None
    assert context(run).trace_id != context(sent).trace_id
    assert facts(run) == {
        "messaging.system": "memory",
        "messaging.operation.name": "perform",
        "messaging.operation.type": "process",
        "messaging.destination.name": "lifecycle",
        "messaging.message.id": ref.id,
        "sigra.worker": "accounts.close",
        "sigra.organization": "org-1",
        "sigra.attempt": 1,
        "sigra.snoozes": 0,
        "sigra.decision": "complete",
    }


def test_a_run_may_be_in_the_trace_of_what_sent_its_job(mode: Mode) -> None:
    host = Traced(mode, options={"same_trace": True}).worker(after(bool, Ok()))
    host.handle.enqueue(KEYS)
    (waiting,) = host.queue.payloads
    host.deliver(waiting)
    sent, run = host.the("enqueue"), host.the("perform")
    assert run.parent is not None
    assert (run.parent.span_id, context(run).trace_id) == (context(sent).span_id, context(sent).trace_id)
    assert linked(run) == [context(sent).span_id]


@pytest.mark.parametrize("same_trace", [False, True])
def test_a_run_of_a_job_that_nobody_traced_has_a_span_of_its_own(mode: Mode, same_trace: bool) -> None:
    host = Traced(mode, options={"same_trace": same_trace}).worker(after(bool, Ok()))
    host.run()
    run = host.the("perform")
    assert (run.parent, linked(run)) == (None, [])


@pytest.mark.parametrize("same_trace", [False, True])
def test_a_run_is_below_what_its_worker_process_traces_of_the_delivery(mode: Mode, same_trace: bool) -> None:
    host = Traced(mode, options={"same_trace": same_trace}).worker(after(bool, Ok()))
    with host.tracers.get_tracer("queue").start_as_current_span("delivery") as delivery:
        host.run()
    run = host.the("perform")
    assert run.parent is not None
    assert run.parent.span_id == delivery.get_span_context().span_id
    assert linked(run) == []


def test_every_run_of_a_job_links_to_the_one_that_sent_it_through_retries_snoozes_and_a_resend() -> None:
    host = Traced().worker(endings(Error("no"), Snooze(5), ValueError(), Ok()), max_attempts=2)
    ref = host.handle.enqueue(KEYS)
    host.queue.drain(scheduled=True)
    host.workers.resend(ref.id, by="ops")
    host.queue.drain()
    runs = host.named("perform")
    assert [linked(run) for run in runs] == [[context(host.the("enqueue")).span_id]] * 4
    assert len({context(run).trace_id for run in runs}) == 4
    told = [(f["sigra.attempt"], f["sigra.snoozes"], f["sigra.decision"]) for f in map(facts, runs)]
    assert told == [(1, 0, "retry"), (2, 0, "snooze"), (2, 1, "dead"), (1, 1, "complete")]


@pytest.mark.parametrize(
    ("ending", "decision", "error"),
    [
        (Ok(), "complete", None),
        (Snooze(5), "snooze", None),
        (Error(SECRET), "retry", "sigra_workers.errors.JobFailedError"),
        (ValueError(SECRET), "retry", "ValueError"),
        (Cancel(SECRET), "cancel", "sigra_workers.errors.JobCancelledError"),
        (SECRET, "dead", "sigra_workers.errors.InvalidResultError"),
    ],
)
def test_the_span_of_a_run_says_how_it_ended(
    mode: Mode, ending: Any, decision: str, error: str | None
) -> None:
    host = Traced(mode).worker(endings(ending))
    host.run()
    run = host.the("perform")
    assert (facts(run)["sigra.decision"], facts(run).get("error.type")) == (decision, error)
    assert (run.status.status_code is StatusCode.ERROR) == (error is not None)
    assert [event.name for event in run.events] == ["exception"] * (error is not None)
    assert SECRET not in run.to_json()


def test_a_run_that_times_out_is_an_error(mode: Mode) -> None:
    def wait(*_: Any) -> Any:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            time.sleep(0.001)

    async def await_(*_: Any) -> Any:
        await asyncio.sleep(5)

    host = Traced(mode).exact(wait if mode.kind == "def" else await_)
    host.run(timeout=0.05)
    assert facts(host.the("perform"))["error.type"] == "sigra_workers.errors.JobTimeoutError"


def test_a_run_that_is_stopped_from_outside_ends_its_span() -> None:
    host = Traced().worker(endings(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        host.run()
    run = host.the("perform")
    assert (facts(run)["sigra.decision"], facts(run)["error.type"]) == ("stopped", "KeyboardInterrupt")


def test_a_run_that_is_cancelled_on_a_loop_ends_its_span() -> None:
    async def wait(*_: Any) -> Any:
        await asyncio.sleep(60)

    host = Traced(MODES[3]).exact(wait)

    async def cancel() -> None:
        run = asyncio.create_task(adispatch(host.workers, Delivery(host.payload().dump())))
        await asyncio.sleep(0.05)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(cancel())
    run = host.the("perform")
    assert facts(run)["error.type"] == "asyncio.exceptions.CancelledError"


@pytest.mark.parametrize(("organization", "told"), [(None, None), (5, "5"), ("", "")])
def test_a_span_names_the_organization_as_text(organization: Any, told: str | None) -> None:
    host = Traced().worker(after(bool, Ok()))
    host.handle.enqueue({"organization_id": organization, "actor_id": None})
    host.queue.drain()
    assert [facts(span).get("sigra.organization") for span in host.spans] == [told, told]


# -- exceptions ------------------------------------------------------------------------------------------


def chained(*_: Any) -> Any:
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(SECRET) from error


def exception_of(host: Traced) -> dict[str, Any]:
    (event,) = host.the("perform").events
    return dict(event.attributes or {})


def test_an_exception_is_told_by_its_type_and_where_it_was_raised_without_any_text(mode: Mode) -> None:
    host = Traced(mode).worker(chained)
    host.run()
    told = exception_of(host)
    assert told.keys() == {"exception.type", "exception.stacktrace"}
    assert told["exception.type"] == "ValueError"
    lines = told["exception.stacktrace"].splitlines()
    assert [line for line in lines if line in ("KeyError", "ValueError")] == ["KeyError", "ValueError"]
    assert f"in {chained.__name__}" in told["exception.stacktrace"]
    assert SECRET not in told["exception.stacktrace"]


def test_an_exception_is_told_with_its_text_where_that_is_asked_for() -> None:
    host = Traced(options={"exception_text": True}).worker(chained)
    host.run()
    told = exception_of(host)
    assert told["exception.message"] == SECRET


def test_an_exception_in_a_circle_of_causes_is_told() -> None:
    def circle(*_: Any) -> Any:
        first, second = KeyError(SECRET), ValueError(SECRET)
        first.__cause__, second.__cause__ = second, first
        raise first

    host = Traced().worker(circle)
    host.run()
    assert SECRET not in exception_of(host)["exception.stacktrace"]


def test_what_was_hidden_of_an_exception_stays_so() -> None:
    def hides(*_: Any) -> Any:
        try:
            raise KeyError(SECRET)
        except KeyError:
            raise ValueError(SECRET) from None

    host = Traced().worker(hides)
    host.run()
    assert "KeyError" not in exception_of(host)["exception.stacktrace"].splitlines()


def test_no_attribute_of_any_span_holds_args(mode: Mode) -> None:
    def body(scope: Any, args: Any) -> Any:
        raise ValueError(args["token"])

    host = Traced(mode).worker(body, max_attempts=2)
    host.workers.enqueue_many([host.handle.new({**KEYS, "token": SECRET}) for _ in range(2)])
    host.handle.enqueue({**KEYS, "token": SECRET})
    host.queue.drain(scheduled=True)
    for span in host.spans:
        assert SECRET not in span.to_json()
    assert len(host.spans) == 8


# -- the current span ------------------------------------------------------------------------------------


@pytest.mark.parametrize("builder", ["def", "async def"])
def test_the_span_of_a_run_is_current_in_everything_of_it_and_gone_behind_it(
    mode: Mode, builder: Any
) -> None:
    seen: list[tuple[str, int]] = []

    class Notes:
        @hookimpl
        def sigra_started(self) -> None:
            seen.append(("started", current()))

        @hookimpl
        def sigra_finished(self) -> None:
            seen.append(("finished", current()))

    def build(args: Any) -> Any:
        seen.append(("builder", current()))
        return AuditScopeBuilder().build(args)

    host = Traced(mode, plugins=(Notes(),), scope_builder=Builder(builder, build))

    @host.workers.around
    def around(job: Any, scope: Any, args: Any) -> Generator[None]:
        seen.append(("entered", current()))
        yield
        seen.append(("left", current()))

    host.worker(after(lambda _: seen.append(("performed", current())), Ok()))
    for _ in range(2):
        host.run()
        assert current() == NO_SPAN
    first, second = host.named("perform")
    steps = ["started", "builder", "entered", "performed", "left", "finished"]
    ids = [context(first).span_id, context(second).span_id]
    assert seen == [(step, span_id) for span_id in ids for step in steps]


def test_spans_of_the_host_are_below_that_of_their_run(mode: Mode) -> None:
    host = Traced(mode)

    def work(_: Any) -> None:
        with host.tracers.get_tracer("app").start_as_current_span("query"):
            pass

    host.worker(after(work, Ok())).run()
    query = host.the("query")
    assert query.parent is not None
    assert query.parent.span_id == context(host.the("perform")).span_id


def test_a_host_that_leaves_a_span_of_its_own_behind_leaves_it_to_nobody(mode: Mode) -> None:
    host = Traced(mode)

    def work(_: Any) -> None:
        attach(trace.set_span_in_context(host.tracers.get_tracer("app").start_span("left behind")))

    host.worker(after(work, Ok()))
    host.run()
    assert current() == NO_SPAN
    host.run()
    first, second = host.named("perform")
    assert first.parent is second.parent is None
    assert {facts(span)["sigra.decision"] for span in (first, second)} == {"complete"}


def below_their_runs(host: Traced, payloads: Sequence[Any]) -> None:
    """Each span of host code is below the run of its own job."""
    runs = {facts(run)["messaging.message.id"]: context(run).span_id for run in host.named("perform")}
    assert len(runs) == len(payloads)
    works = host.named("work")
    assert len(works) == 2 * len(payloads)
    for work in works:
        assert work.parent is not None
        assert work.parent.span_id == runs[facts(work)["job"]]


def test_jobs_that_run_side_by_side_in_threads_have_each_their_own_span() -> None:
    host = Traced()
    tracer = host.tracers.get_tracer("app")

    def body(scope: Any, args: Any) -> Any:
        for _ in range(2):
            with tracer.start_as_current_span("work", attributes={"job": args["job"]}):
                time.sleep(random.random() / 1_000)
        return Ok()

    host.worker(body)
    payloads = [host.payload({**KEYS, "job": f"job-{n}"}, job_id=f"job-{n}") for n in range(60)]
    with ThreadPoolExecutor(8) as threads:
        assert len([*threads.map(host.deliver, payloads)]) == 60
    below_their_runs(host, payloads)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_jobs_that_run_side_by_side_on_a_loop_have_each_their_own_span(kind: str) -> None:
    host = Traced()
    tracer = host.tracers.get_tracer("app")

    def body(scope: Any, args: Any) -> Any:
        for _ in range(2):
            with tracer.start_as_current_span("work", attributes={"job": args["job"]}):
                time.sleep(random.random() / 1_000)
        return Ok()

    async def abody(scope: Any, args: Any) -> Any:
        for _ in range(2):
            with tracer.start_as_current_span("work", attributes={"job": args["job"]}):
                await asyncio.sleep(random.random() / 1_000)
        return Ok()

    host.exact(body if kind == "def" else abody)
    payloads = [host.payload({**KEYS, "job": f"job-{n}"}, job_id=f"job-{n}") for n in range(60)]

    async def run_all() -> None:
        await asyncio.gather(*(adispatch(host.workers, Delivery(payload.dump())) for payload in payloads))

    asyncio.run(run_all())
    below_their_runs(host, payloads)


def test_a_job_inside_of_a_job_is_below_it_and_the_outer_one_goes_on() -> None:
    host = Traced()
    inner = Host(plugins=(host.plugin,)).worker(after(bool, Ok()), queue="inner")
    inner.handle.enqueue(KEYS)
    seen: list[int] = []

    def body(scope: Any, args: Any) -> Any:
        seen.append(current())
        MemoryAdapter.of(inner.workers).drain()
        seen.append(current())
        return Ok()

    host.worker(body).run()
    outer = host.the("perform default")
    assert seen == [context(outer).span_id] * 2
    below = host.the("perform inner")
    assert below.parent is not None
    assert below.parent.span_id == context(outer).span_id
    assert facts(outer)["sigra.decision"] == "complete"


# -- what goes along ---------------------------------------------------------------------------------------


def test_a_job_carries_the_trace_context_of_w3c_and_no_baggage() -> None:
    host = Traced().worker(after(bool, Ok()))
    token = attach(baggage.set_baggage("tenant", SECRET))
    try:
        host.handle.enqueue(KEYS)
    finally:
        detach(token)
    (payload,) = host.queue.payloads
    sent = context(host.the("enqueue"))
    assert [*payload.carried] == ["traceparent"]
    version, trace_id, span_id, _flags = payload.carried["traceparent"].split("-")
    assert (version, trace_id, span_id) == ("00", f"{sent.trace_id:032x}", f"{sent.span_id:016x}")


@pytest.mark.parametrize("same_trace", [False, True])
def test_a_propagator_of_the_host_may_carry_its_baggage_into_the_run(mode: Mode, same_trace: bool) -> None:
    both = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    host = Traced(mode, options={"propagator": both, "same_trace": same_trace})
    seen: list[object] = []
    host.worker(after(lambda _: seen.append(baggage.get_baggage("plan")), Ok()))
    token = attach(baggage.set_baggage("plan", "gold"))
    try:
        host.handle.enqueue(KEYS)
    finally:
        detach(token)
    (waiting,) = host.queue.payloads
    host.deliver(waiting)
    assert seen == ["gold"]
    assert linked(host.the("perform")) == [context(host.the("enqueue")).span_id]
    assert baggage.get_baggage("plan") is None


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_trace_context_made_by_hand_that_is_none_joins_nothing(traceparent: str) -> None:
    host = Traced(options={"same_trace": True}).worker(after(bool, Ok()))
    completed(host.deliver(host.payload().carrying({"traceparent": traceparent})))
    run = host.the("perform")
    assert (run.parent, linked(run)) == (None, [])


def test_a_sender_without_a_provider_gives_its_jobs_nothing_along() -> None:
    host = Host(plugins=(OpenTelemetry(),)).worker(after(bool, Ok()))
    host.handle.enqueue(KEYS)
    (payload,) = MemoryAdapter.of(host.workers).payloads
    assert payload.meta == {}
    completed(host.deliver(payload))


def test_a_sender_that_samples_nothing_says_so_to_the_run() -> None:
    options = {"same_trace": True}
    sender = Traced(options=options, sampler=ALWAYS_OFF).worker(after(bool, Ok()))
    sender.handle.enqueue(KEYS)
    (payload,) = sender.queue.payloads
    host = Traced(options=options, sampler=ParentBased(ALWAYS_ON)).worker(after(bool, Ok()))
    completed(host.deliver(payload))
    assert host.spans == []


# -- nothing of it can harm a job --------------------------------------------------------------------------


class BrokenExporter(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        raise ConnectionError

    def shutdown(self) -> None: ...


class BrokenTracer:
    def start_span(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError

    start_as_current_span = start_span


class BrokenPropagator(TraceContextTextMapPropagator):
    def inject(self, *_: Any, **__: Any) -> None:
        raise RuntimeError

    def extract(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError


class BrokenProvider(TracerProvider):
    def get_tracer(self, *_: Any, **__: Any) -> Any:
        return BrokenTracer()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        raise TimeoutError


def broken_exporter() -> OpenTelemetry:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(BrokenExporter()))
    return OpenTelemetry(tracer_provider=provider, flush=0.1)


@pytest.mark.parametrize(
    "make",
    [
        broken_exporter,
        lambda: OpenTelemetry(tracer_provider=BrokenProvider(), flush=0.1),
        lambda: OpenTelemetry(propagator=BrokenPropagator()),
    ],
)
def test_a_plugin_that_is_broken_changes_no_job(mode: Mode, make: Any) -> None:
    host = Host(mode, plugins=(make(),)).worker(endings(Error("no"), Snooze(5), Ok("done")), backoff=1)
    ref = host.handle.enqueue(KEYS)
    queue = MemoryAdapter.of(host.workers)
    assert queue.drain(scheduled=True) == {"retry": 1, "snooze": 1, "complete": 1}
    assert queue.results == {ref.id: "done"}
    assert host.told.names == ["enqueued", *["started", "finished"] * 3]


def test_spans_are_exported_before_the_decision_is_carried_out_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugin, "perf_counter", lambda: 0.0)
    flushed: list[tuple[str, int]] = []

    class Provider(TracerProvider):
        def force_flush(self, timeout_millis: int = 0) -> bool:
            flushed.append(("spans", timeout_millis))
            return True

    host = Host(plugins=(OpenTelemetry(tracer_provider=Provider(), flush=2.5),))
    host.worker(endings(Ok(), Snooze(5), Error("no"), Cancel("no")))
    for _ in range(3):
        host.run()
        assert flushed == [("spans", 2_500)]
        flushed.clear()
    host.run()  # told of its end, and that it is dead
    assert flushed == [("spans", 2_500)]
    flushed.clear()
    host.run(crashes=99)  # never ran
    assert flushed == [("spans", 2_500)]


@pytest.mark.parametrize(
    ("seconds", "flushed"),
    [
        (0.5, [("spans", 2_500), ("metrics", 2_000)]),
        (2.5, [("spans", 2_500)]),
        (9.0, [("spans", 2_500)]),
    ],
)
def test_metrics_have_the_time_that_spans_have_left_them(
    monkeypatch: pytest.MonkeyPatch, seconds: float, flushed: list[tuple[str, int]]
) -> None:
    now, told = [0.0], list[tuple[str, float]]()
    monkeypatch.setattr(plugin, "perf_counter", lambda: now[0])

    class Tracers(TracerProvider):
        def force_flush(self, timeout_millis: int = 0) -> bool:
            told.append(("spans", timeout_millis))
            now[0] += seconds
            return True

    class Meters(MeterProvider):
        def force_flush(self, timeout_millis: float = 0) -> bool:
            told.append(("metrics", timeout_millis))
            return True

    traced = OpenTelemetry(tracer_provider=Tracers(), meter_provider=Meters(), flush=2.5)
    completed(Host(plugins=(traced,)).worker(endings(Ok())).run())
    assert told == flushed


def test_nothing_waits_for_an_export_where_that_is_not_asked_for() -> None:
    class Provider(TracerProvider):
        def force_flush(self, timeout_millis: int = 0) -> bool:
            raise AssertionError

    host = Host(plugins=(OpenTelemetry(tracer_provider=Provider()),)).worker(endings(Ok()))
    completed(host.run())


def test_spans_name_the_conventions_that_they_follow() -> None:
    host = Traced().worker(after(bool, Ok()))
    host.run()
    scope = host.the("perform").instrumentation_scope
    assert scope is not None
    assert scope.schema_url is not None
    assert scope.name == "sigra_workers_opentelemetry"
    assert scope.schema_url.startswith("https://opentelemetry.io/schemas/1.")
