"""What adapters have in common: settings that are refused, results that are kept, dead jobs that are told."""

from collections.abc import Callable, Collection, Mapping
from logging import Logger
from typing import Any

from typing_extensions import TypeVar

from sigra_workers.errors import InvalidPayloadError, InvalidSettingsError, told
from sigra_workers.logs import JobFields
from sigra_workers.protocols import Dead

T = TypeVar("T")


def invalid(adapter: str, problem: str) -> InvalidSettingsError:
    """What is wrong with the settings of an adapter; without their values, which may hold a password."""
    return InvalidSettingsError(f"adapter {adapter!r}", problem)


def check_settings(
    adapter: str, settings: Mapping[str, Any], known: Collection[str], either: tuple[str, str], example: str
) -> None:
    """Refuse settings that are not `known`, and any but one of those in `either`, such as the `example`."""
    unknown = sorted({*settings} - {*known})
    if unknown:
        raise invalid(adapter, f"there is no setting {unknown}, known are {sorted(known)}")
    if (either[0] in settings) == (either[1] in settings):
        raise invalid(adapter, f"it takes either {either[0]!r} or {either[1]!r}, such as {example}")


def wrong_type(adapter: str, setting: str, value: object, expected: str) -> InvalidSettingsError:
    """A setting is of another type than expected."""
    return invalid(adapter, f"setting {setting!r} is of type {type(value).__name__}, expected {expected}")


def unreadable(error: InvalidPayloadError) -> Dead:
    """What becomes of a payload that can't be read, or that is another job's."""
    return Dead(None, f"{type(error).__name__}: {error}", None, error)


def storable(value: T, store: Callable[[T], object], job_id: str, log: Logger) -> T | None:
    """The value of a job that is done, or None where `store`, or only its encoder, fails: it is dropped."""
    try:
        store(value)
    except Exception as error:  # depends on the encoder and the host's objects
        kind, why = type(value).__name__, type(error).__name__
        log.warning("the result of job %s is of type %s and can't be stored (%s): dropped", job_id, kind, why)
        return None
    return value


def report(dead: Dead, job_id: str, log: Logger) -> None:
    """Tell of a dead job, as an error, where the queue's own log does not; of its args nothing."""
    failure, payload = dead.failure(job_id), dead.payload
    fields = JobFields(job_id=job_id, worker=None, organization_id=None, attempt=None)
    if payload is not None:
        organization = payload.organization_id
        fields = JobFields(
            job_id=job_id, worker=payload.worker, organization_id=organization, attempt=payload.attempt
        )
    log.error(
        "job %s of worker %r (organization %s) is dead: %s",
        job_id,
        failure.worker,
        failure.organization,
        told(dead.error),
        extra={**fields, "is_dead": True},
    )
