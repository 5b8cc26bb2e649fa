"""`OpenTelemetry`, the plugin: a span for each batch that is sent and for each run, and metrics of both."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Final, TypeAlias, TypeVar

from opentelemetry.context import Context, attach, get_current
from opentelemetry.metrics import MeterProvider, get_meter, get_meter_provider
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer,
    get_tracer_provider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sigra_workers import Decision, Duplicate, Id, JobInfo, JobRef, Receipt, Sent, hookimpl
from sigra_workers_opentelemetry import names
from sigra_workers_opentelemetry.exceptions import kind, stacktrace
from sigra_workers_opentelemetry.instruments import Instruments

ENQUEUE: Final = "enqueue"
PERFORM: Final = "perform"
STOPPED: Final = "stopped"
"""The type of error where a sender was stopped, and the decision where a run was."""
_LIBRARY: Final = ("sigra_workers_opentelemetry", "0.1.0")
T = TypeVar("T")
Value: TypeAlias = str | int


@dataclass(slots=True)
class _Run:
    """What is to be known at the end of a run."""

    adapter: str
    span: Span


class OpenTelemetry:
    """Traces and counts jobs, for ``Workers(plugins=[OpenTelemetry()])``, in senders and in worker processes.

    The providers are the global ones where none are given. The span of a run links to the span that sent its
    job; with `same_trace` it is in that one's trace, too. `propagator` brings the one to the other: W3C trace
    context where none is given, which carries no baggage. An exception is told by its type and where it was
    raised; with `exception_text` by its text as well, which may hold args. With `organization_metrics` there
    are metrics for each organization. `flush` is how many seconds a run may wait at its end until everything
    is exported, for a process that ends without notice, such as RQ's.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        same_trace: bool = False,
        exception_text: bool = False,
        organization_metrics: bool = False,
        flush: float | None = None,
    ) -> None:
        self._providers = tracer_provider, meter_provider
        self._tracer = get_tracer(*_LIBRARY, tracer_provider, names.SCHEMA_URL)
        self._instruments = Instruments(get_meter(*_LIBRARY, meter_provider, names.SCHEMA_URL))
        self._propagator = TraceContextTextMapPropagator() if propagator is None else propagator
        self._same_trace, self._exception_text = same_trace, exception_text
        self._organization_metrics = organization_metrics
        self._flush_for = flush
        self._run: ContextVar[_Run] = ContextVar("sigra_workers_opentelemetry")

    # -- sending -----------------------------------------------------------------------------------------

    @hookimpl
    def sigra_sending(
        self, adapter: str, jobs: Sequence[JobRef], organization_ids: Sequence[Id | None]
    ) -> Generator[Mapping[str, str], Sequence[Receipt]]:
        """One span for the batch, whose context goes along with each of its jobs."""
        queue = _same([job.queue for job in jobs])
        common = {names.SYSTEM: adapter, names.OPERATION_NAME: ENQUEUE, names.DESTINATION_NAME: queue}
        facts = {
            names.OPERATION_TYPE: "send",
            names.MESSAGE_ID: jobs[0].id if len(jobs) == 1 else None,
            names.BATCH_MESSAGE_COUNT: len(jobs) if len(jobs) > 1 else None,
            names.WORKER: _same([job.worker for job in jobs]),
            names.ORGANIZATION: _text(_same(organization_ids)),
        }
        error: str | None = STOPPED
        began = perf_counter()
        with self._tracer.start_as_current_span(
            f"{ENQUEUE} {queue}" if queue else ENQUEUE,
            kind=SpanKind.PRODUCER,
            attributes=_given(common | facts),
        ) as span:
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)  # pyright: ignore[reportArgumentType]  # its own default
            try:
                receipts = yield carrier
                error = self._count_sent(adapter, jobs, organization_ids, receipts)
            finally:
                _fail(span, error)
                measured = _given(common | {names.ERROR_TYPE: error})
                self._instruments.sending.record(perf_counter() - began, measured)

    def _count_sent(
        self,
        adapter: str,
        jobs: Sequence[JobRef],
        organization_ids: Sequence[Id | None],
        receipts: Sequence[Receipt],
    ) -> str | None:
        """Count jobs by what became of them; the type of the first error among those."""
        counts: Counter[tuple[str, str, str | None, str | None]] = Counter()
        for job, organization_id, receipt in zip(jobs, organization_ids, receipts, strict=True):
            if not isinstance(receipt, Duplicate):
                error = None if isinstance(receipt, Sent) else kind(receipt.cause)
                counts[job.queue, job.worker, self._counted(organization_id), error] += 1
        for (queue, worker, organization, error), count in counts.items():
            facts = {
                names.SYSTEM: adapter,
                names.OPERATION_NAME: ENQUEUE,
                names.DESTINATION_NAME: queue,
                names.WORKER: worker,
                names.ORGANIZATION: organization,
                names.ERROR_TYPE: error,
            }
            self._instruments.sent.add(count, _given(facts))
        return next((error for *_, error in counts if error is not None), None)

    # -- running -----------------------------------------------------------------------------------------

    @hookimpl
    def sigra_started(
        self,
        job: JobInfo,
        organization_id: Id | None,
        adapter: str,
        waited: float,
        meta: Mapping[str, str],
    ) -> None:
        """Begin the span of the run: it is the current one until the job's context is gone."""
        facts = {
            names.SYSTEM: adapter,
            names.OPERATION_NAME: PERFORM,
            names.OPERATION_TYPE: "process",
            names.DESTINATION_NAME: job.queue,
            names.MESSAGE_ID: job.id,
            names.WORKER: job.worker,
            names.ORGANIZATION: _text(organization_id),
            names.ATTEMPT: job.attempt,
            names.SNOOZES_BEFORE: job.snoozes,
        }
        here = get_current()
        context = self._propagator.extract(meta, here)
        creation = get_current_span(self._propagator.extract(meta, Context())).get_span_context()
        if not self._same_trace:
            context = set_span_in_context(get_current_span(here), context)
        span = self._tracer.start_span(
            f"{PERFORM} {job.queue}",
            context,
            SpanKind.CONSUMER,
            _given(facts),
            [Link(creation)] if creation.is_valid else [],
        )
        attach(set_span_in_context(span, context))
        self._run.set(_Run(adapter, span))
        self._instruments.queue_time.record(waited, self._of(job, organization_id, adapter))

    @hookimpl
    def sigra_finished(
        self,
        job: JobInfo,
        organization_id: Id | None,
        decision: Decision | None,
        exception: BaseException | None,
        duration: float,
    ) -> None:
        """End the span of the run, and count it."""
        run = self._run.get()
        error = None if exception is None else kind(exception)
        decided: dict[str, Value] = {names.DECISION: decision or STOPPED}
        run.span.set_attributes(decided)
        if exception is not None:
            self._record(run.span, exception)
        _fail(run.span, error)
        run.span.end()
        counted = self._of(job, organization_id, run.adapter)
        self._instruments.runs.add(1, counted | decided)
        measured = {names.OPERATION_NAME: PERFORM, **decided, names.ERROR_TYPE: error}
        self._instruments.duration.record(duration, counted | _given(measured))
        if decision == "snooze":
            self._instruments.snoozes.add(1, counted)
        if decision not in ("dead", "cancel"):  # `sigra_dead` is told next
            self._flush()

    @hookimpl
    def sigra_dead(self, job: JobInfo, organization_id: Id | None) -> None:
        """Count it."""
        self._instruments.dead.add(1, self._of(job, organization_id))
        self._flush()

    def _record(self, span: Span, exception: BaseException) -> None:
        if self._exception_text:
            span.record_exception(exception)
            return
        facts = {names.EXCEPTION_TYPE: kind(exception), names.EXCEPTION_STACKTRACE: stacktrace(exception)}
        span.add_event("exception", facts)

    def _of(self, job: JobInfo, organization_id: Id | None, adapter: str | None = None) -> dict[str, Value]:
        """The attributes by which jobs are counted."""
        facts = {
            names.SYSTEM: adapter,
            names.DESTINATION_NAME: job.queue,
            names.WORKER: job.worker,
            names.ORGANIZATION: self._counted(organization_id),
        }
        return _given(facts)

    def _counted(self, organization_id: Id | None) -> str | None:
        return _text(organization_id) if self._organization_metrics else None

    def _flush(self) -> None:
        if self._flush_for is None:
            return
        end = perf_counter() + self._flush_for
        tracers, meters = self._providers
        for provider in (tracers or get_tracer_provider(), meters or get_meter_provider()):
            flush = getattr(provider, "force_flush", None)  # the SDK's providers have it, the API's do not
            left = round((end - perf_counter()) * 1_000)
            if flush is not None and left > 0:
                flush(left)


def _given(facts: Mapping[str, Value | None]) -> dict[str, Value]:
    """Those that are not None: an attribute can't be."""
    return {name: value for name, value in facts.items() if value is not None}


def _same(values: Sequence[T]) -> T | None:
    """What all of them are; None where they differ."""
    return values[0] if all(value == values[0] for value in values) else None


def _text(organization_id: Id | None) -> str | None:
    return None if organization_id is None else str(organization_id)


def _fail(span: Span, error: str | None) -> None:
    if error is not None:
        span.set_attribute(names.ERROR_TYPE, error)
        span.set_status(StatusCode.ERROR)
