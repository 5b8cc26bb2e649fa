"""How a job lies in arq: one function without args, the payload as one string beside them.

arq logs a job's args at each run and keeps them with its result; of a key that it does not know it does
neither (jobs.py, `deserialize_job_raw`).
"""

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from arq.constants import in_progress_key_prefix, job_key_prefix, result_key_prefix, retry_key_prefix

from sigra_workers import InvalidPayloadError, Payload

FUNCTION: Final = "sigra_workers_arq.dispatch"
PAYLOAD_KEY: Final = "sigra"
PREFIX: Final = "sigra-workers:arq"
"""Of the keys under which processes remember jobs."""
_KEYS: Final = frozenset(("t", "f", "a", "k", "et"))
"""Of arq's map of a job."""


def job_id(payload: Payload) -> str:
    """The job's id in arq: its own, and another for each resend.

    A run that ends deletes arq's keys of its id, and a job that is sent again meanwhile must not be there.
    """
    return f"{payload.id}:{payload.resends}" if payload.resends else payload.id


def check(payload: Payload, arq_id: str) -> None:
    """Raise `InvalidPayloadError` for the payload of another job."""
    if job_id(payload) != arq_id:
        raise InvalidPayloadError("its id is another than arq's own record of it says")


def job_key(arq_id: str) -> str:
    """Where arq keeps the job."""
    return f"{job_key_prefix}{arq_id}"


def result_key(arq_id: str) -> str:
    """Where arq keeps its result."""
    return f"{result_key_prefix}{arq_id}"


def retry_key(arq_id: str) -> str:
    """Where arq counts its starts."""
    return f"{retry_key_prefix}{arq_id}"


def in_progress_key(arq_id: str) -> str:
    """What keeps arq from starting it once more."""
    return f"{in_progress_key_prefix}{arq_id}"


def score(payload: Payload, now: float) -> int:
    """When arq may start it, in ms: never early, and never 0, which arq takes for none."""
    return max(math.ceil((payload.due_at or 0) * 1_000), int(now * 1_000))


def text(found: object) -> object:
    """The payload of a job as its serializer read it, or what is there instead of it."""
    return cast("dict[str, object]", found).get(PAYLOAD_KEY) if isinstance(found, dict) else None


def call(at: float) -> dict[str, Any]:
    """arq's map of a call of our function that was sent at `at`, in epoch seconds.

    Without a payload it has arq call us for a job that can't be read.
    """
    return {"t": None, "f": FUNCTION, "a": (), "k": {}, "et": int(at * 1_000)}


@dataclass(frozen=True, slots=True)
class Codec:
    """arq's serializers, the host's or pickle."""

    dumps: Callable[[dict[str, Any]], bytes] = pickle.dumps
    loads: Callable[[bytes], dict[str, Any]] = pickle.loads

    def pack(self, payload: Payload) -> bytes:
        """The job as arq keeps it."""
        return self.dumps({**call(payload.enqueued_at), PAYLOAD_KEY: payload.dump()})

    def read(self, packed: bytes) -> dict[str, Any]:
        """arq's map of a job; raises `InvalidPayloadError` for what is none, as of another serializer."""
        try:
            found = cast("object", self.loads(packed))
        except Exception as error:  # whose text may hold args
            kind = type(error).__name__
            raise InvalidPayloadError(f"arq's deserializer can't read it ({kind})") from None
        if isinstance(found, dict):
            whole = cast("dict[str, Any]", found)
            if whole.keys() >= _KEYS:
                return whole
        raise InvalidPayloadError("arq's deserializer finds no job in it")

    def text(self, packed: bytes) -> object:
        """The payload of a job in arq, or what is there instead of it.

        Raises `InvalidPayloadError` where that can't be read.
        """
        return text(self.read(packed))

    def commands(self, payload: Payload, now: float) -> list[tuple[Any, ...]]:
        """Redis commands that queue the job.

        Without a time to live, with which arq would drop a job that waits longer: it deletes the key itself
        when the job ends.
        """
        arq_id = job_id(payload)
        return [
            ("MSET", job_key(arq_id), self.pack(payload)),
            ("ZADD", payload.queue, score(payload, now), arq_id),
        ]
