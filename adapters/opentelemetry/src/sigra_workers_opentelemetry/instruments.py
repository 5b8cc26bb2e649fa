"""The instruments that count jobs and their runs, and measure how long they take and wait."""

from typing import Final

from opentelemetry.metrics import Meter

from sigra_workers_opentelemetry import names

SHORT: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bounds of a histogram in seconds, as the conventions have them."""
LONG: Final = (*SHORT, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)
"""The same for what takes as long as a job, or waits for one."""


class Instruments:
    """All of them, of one meter."""

    def __init__(self, meter: Meter) -> None:
        self.sent = meter.create_counter(
            names.SENT_MESSAGES, "{message}", "Jobs that were sent, or could not be."
        )
        self.sending = meter.create_histogram(
            names.OPERATION_DURATION,
            "s",
            "How long it took to send a batch of jobs.",
            explicit_bucket_boundaries_advisory=SHORT,
        )
        self.runs = meter.create_counter(names.RUNS, "{run}", "Runs of jobs, by their decision.")
        self.duration = meter.create_histogram(
            names.PROCESS_DURATION,
            "s",
            "How long a run took.",
            explicit_bucket_boundaries_advisory=LONG,
        )
        self.queue_time = meter.create_histogram(
            names.QUEUE_TIME,
            "s",
            "How long a job waited for a run, from when it was due.",
            explicit_bucket_boundaries_advisory=LONG,
        )
        self.snoozes = meter.create_counter(names.SNOOZES, "{snooze}", "Runs that ended with a snooze.")
        self.dead = meter.create_counter(
            names.DEAD, "{job}", "Jobs that died, those that never ran included."
        )
