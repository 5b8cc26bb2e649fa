"""What Dramatiq's worker processes import."""

from typing import Any

import dramatiq
from opentelemetry import metrics, trace
from tests.observability.host import serve

from sigra_workers_dramatiq import boot

boot(serve())


class Export(dramatiq.Middleware):
    """Dramatiq's processes end without what `atexit` has, such as the last export."""

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        providers: list[Any] = [trace.get_tracer_provider(), metrics.get_meter_provider()]
        for provider in providers:
            if hasattr(provider, "shutdown"):  # the SDK's
                provider.shutdown()


dramatiq.get_broker().add_middleware(Export())
