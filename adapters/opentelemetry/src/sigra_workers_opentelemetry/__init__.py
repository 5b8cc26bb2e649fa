"""Traces and metrics of the jobs of sigra-workers, with OpenTelemetry."""

from sigra_workers_opentelemetry.plugin import OpenTelemetry

__version__ = "0.1.0"

__all__ = ["OpenTelemetry", "__version__"]
