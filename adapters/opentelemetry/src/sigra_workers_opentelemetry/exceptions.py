"""An exception without its text, which may hold args: its type, and where it was raised."""

import traceback
from typing import Final

FRAMES: Final = 50
"""How many frames of each exception are told, the innermost."""
CAUSES: Final = 10
"""How many exceptions of a chain are told, the last."""


def kind(error: BaseException) -> str:
    """The name of its type, with its module, but for a built-in one."""
    found = type(error)
    return (
        found.__qualname__ if found.__module__ == "builtins" else f"{found.__module__}.{found.__qualname__}"
    )


def stacktrace(error: BaseException) -> str:
    """As Python prints it, causes first, without the text of any."""
    told: list[str] = []
    current: BaseException | None = error
    while current is not None and len(told) < CAUSES:
        frames = traceback.format_tb(current.__traceback__, -FRAMES)
        head = ["Traceback (most recent call last):\n"] if frames else []
        told.append("".join([*head, *frames, kind(current), "\n"]))
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return "\n".join(reversed(told))
