"""Logging of worker processes: one line a record, with the job that it is about."""

from typing import Any, Final

LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"job": {"()": "sigra_workers.logs.JobLogFilter"}},
    "formatters": {"line": {"format": "%(levelname)s %(name)s job=%(job_id)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["job"]}},
    "root": {"level": "INFO", "handlers": ["out"]},
}
