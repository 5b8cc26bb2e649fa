"""What watches the jobs of a worker process, set up as an application does it, and writes to files."""

import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

PAGE: Final = Path(__file__).parents[2] / "docs/how-to/observability.md"


def traced(folder: str, adapter: str) -> list[object]:
    """Spans, metrics and log lines, each in a file of this process; exported when it ends, or a run on RQ."""
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        ConsoleMetricExporter,
        PeriodicExportingMetricReader,
    )
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    from sigra_workers.logs import JobLogFilter
    from sigra_workers_opentelemetry import OpenTelemetry

    def file(name: str) -> Path:
        return Path(folder) / f"{name}-{os.getpid()}.jsonl"

    tracers = TracerProvider()
    to_file = ConsoleSpanExporter(
        out=file("spans").open("a"), formatter=lambda span: span.to_json(indent=None) + "\n"
    )
    tracers.add_span_processor(BatchSpanProcessor(to_file, schedule_delay_millis=60_000))
    trace.set_tracer_provider(tracers)
    delta: dict[type, AggregationTemporality] = {
        Counter: AggregationTemporality.DELTA,
        Histogram: AggregationTemporality.DELTA,
    }
    exporter = ConsoleMetricExporter(
        out=file("metrics").open("a"),
        formatter=lambda data: data.to_json(indent=None) + "\n",
        preferred_temporality=delta,
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)
    metrics.set_meter_provider(MeterProvider([reader]))
    handler = logging.FileHandler(file("logs"))
    handler.addFilter(JobLogFilter())
    names = ("job_id", "worker", "organization_id", "attempt")
    handler.setFormatter(logging.Formatter(json.dumps({name: f"%({name})s" for name in names})))
    logging.getLogger("app").addHandler(handler)
    logging.getLogger("app").setLevel(logging.INFO)
    return [OpenTelemetry(flush=5 if adapter == "rq" else None)]


def reported(folder: str, adapter: str) -> list[object]:
    """Sentry as the page sets it up, with the page's plugin."""
    import sentry_sdk

    (code,) = (block for block in page_blocks() if "class ReportDeadJobs" in block)
    (setup,) = (block for block in page_blocks() if "sentry_sdk.init(" in block)
    names: dict[str, Any] = {}
    exec("from sigra_workers import AuditScope, JobInfo, Workers, hookimpl\n" + code, names)
    with_file = SimpleNamespace(init=lambda **options: sentry_sdk.init(**options, **to_file(folder)))
    exec(setup, {**names, "sentry_sdk": with_file})
    return [names["ReportDeadJobs"]()]


def reported_bare(folder: str, adapter: str) -> list[object]:
    """Sentry's integrations, and no more."""
    import sentry_sdk

    sentry_sdk.init(dsn="https://key@sentry.invalid/1", **to_file(folder))
    return []


def to_file(folder: str) -> dict[str, Any]:
    """Options by which Sentry watches everything, and writes to a file instead of sending it."""
    from sentry_sdk.integrations.arq import ArqIntegration
    from sentry_sdk.integrations.dramatiq import DramatiqIntegration
    from sentry_sdk.integrations.rq import RqIntegration
    from sentry_sdk.transport import Transport

    class FileTransport(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            for item in envelope.items:
                write_line(
                    Path(folder) / "sentry.jsonl", type=item.type, payload=json.loads(item.get_bytes())
                )

    on = [RqIntegration(), ArqIntegration(), DramatiqIntegration()]
    return {"transport": FileTransport, "integrations": on, "traces_sample_rate": 1.0}


def write_line(file: Path, **facts: object) -> None:
    """A line of JSON in one write, so that threads and processes don't mix theirs."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(facts) + "\n").encode())
    finally:
        os.close(descriptor)


def page_blocks() -> list[str]:
    """The Python code of the page."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


WATCHERS: Final[Mapping[str, Callable[[str, str], list[object]]]] = {
    watcher.__name__: watcher for watcher in (traced, reported, reported_bare)
}
"""Each with the folder of its files and the name of the adapter."""
