"""A host whose spans and metrics are kept in memory."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanContext
from tests.support import MODES, Host, Mode, Perform

from sigra_workers.memory import MemoryAdapter
from sigra_workers_opentelemetry import OpenTelemetry


class Traced(Host):
    """A host with the plugin, its queue, and what was exported. `options` are those of the plugin."""

    def __init__(
        self,
        mode: Mode = MODES[0],
        *,
        plugins: tuple[object, ...] = (),
        options: Mapping[str, Any] | None = None,
        sampler: Sampler | None = None,
        **workers: Any,
    ) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.plugin = OpenTelemetry(
            tracer_provider=self.tracers, meter_provider=self.meters, **(options or {})
        )
        super().__init__(mode, plugins=(self.plugin, *plugins), **workers)
        self.queue = MemoryAdapter.of(self.workers)

    def worker(self, body: Perform, *args: Any, **options: Any) -> "Traced":
        super().worker(body, *args, **options)
        return self

    def exact(self, perform: Perform, *args: Any, **options: Any) -> "Traced":
        super().exact(perform, *args, **options)
        return self

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that ended, in the order of their ends."""
        return [*self.exporter.get_finished_spans()]

    def named(self, start: str) -> list[ReadableSpan]:
        """Those whose name begins so."""
        return [span for span in self.spans if span.name.startswith(start)]

    def the(self, start: str) -> ReadableSpan:
        """The only one whose name begins so."""
        (span,) = self.named(start)
        return span

    def points(self, metric: str) -> dict[tuple[tuple[str, Any], ...], float]:
        """The values of a metric by its sorted attributes; the sums of a histogram."""
        data: Any = self.reader.get_metrics_data()
        resources: list[Any] = data.resource_metrics if data else []
        scopes: list[Any] = [scope for resource in resources for scope in resource.scope_metrics]
        metrics: list[Any] = [found for scope in scopes for found in scope.metrics if found.name == metric]
        points: list[Any] = [point for found in metrics for point in found.data.data_points]
        return {
            tuple(sorted(point.attributes.items())): point.value if hasattr(point, "value") else point.sum
            for point in points
        }


def endings(*results: Any) -> Perform:
    """A body that ends each run with the next of them; exceptions are raised."""
    left = [*results]

    def body(scope: Any, args: Any) -> Any:
        result = left.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result

    return body


def context(span: ReadableSpan) -> SpanContext:
    """Its ids."""
    found = span.get_span_context()
    assert found is not None
    return found


def facts(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})


def linked(span: ReadableSpan) -> list[int]:
    """The ids of the spans that it links to."""
    return [link.context.span_id for link in span.links]
