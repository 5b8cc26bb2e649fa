"""How a job lies in Dramatiq: a message with no args, the payload as one string in its options.

Dramatiq logs and hands to error trackers a message's args, but not its options.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from dramatiq import Message
from dramatiq.common import dq_name

from sigra_workers import InvalidPayloadError, Payload

OPTION: Final = "sigra"
META_KEY: Final = "dramatiq"
"""Where a payload keeps the other options of its message: a job that runs again is a new message."""
_TRANSPORT: Final = frozenset(
    {OPTION, "eta", "redis_message_id", "requeue_timestamp", "retries", "traceback"}
)


def message(payload: Payload, **options: Any) -> Message[Any]:
    """The message that brings a job to its queue now; `options` are Dramatiq's own."""
    options = {**payload.meta.get(META_KEY, {}), **options, OPTION: payload.dump()}
    return Message(payload.queue, payload.worker, (), {}, options, message_id=payload.id)


def payload(message: Any) -> Payload | None:
    """The payload of a delivered message; None where the core will not run it, and says why.

    Raises `InvalidPayloadError` for one that is another job's.
    """
    try:
        found = Payload.parse(message.options.get(OPTION))
    except InvalidPayloadError:
        return None
    if found.id != message.message_id:
        raise InvalidPayloadError("its id is another than Dramatiq's own record of it says")
    return with_options(found, message.options) if found.worker == message.actor_name else None


def delayed(message: Message[Any], due_at: float) -> Message[Any]:
    """The message for Dramatiq's own delay queue, until a time in epoch seconds."""
    eta = math.ceil(due_at * 1_000)
    return dataclasses.replace(
        message, queue_name=dq_name(message.queue_name), options={**message.options, "eta": eta}
    )


def with_options(payload: Payload, options: Mapping[str, Any]) -> Payload:
    """The payload, which keeps what others put into the message's options: a pipeline, a priority."""
    others = {name: value for name, value in options.items() if name not in _TRANSPORT and _is_json(value)}
    if others == payload.meta.get(META_KEY, {}):
        return payload
    return payload.again(payload.due_at, meta={**payload.meta, META_KEY: others})


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # Dramatiq's encoder may be another than JSON
        return False
    return True
