"""What the commands print: errors that tell no password, and texts that can't take over the terminal."""

import re
import sys
from typing import Final
from urllib.parse import parse_qsl, unquote

_SECRET: Final = re.compile("pass|pwd|secret|token|odbc", re.IGNORECASE)
"""In the names of a URL's parameters."""


def fail(problem: str) -> int:
    """Tell a problem on standard error; returns the exit code for it."""
    print(f"sigra-workers: {problem}", file=sys.stderr)
    return 1


def told(error: Exception) -> str:
    """An error of another library's in a line."""
    return "\n".join(f"{type(error).__name__}: {error}".splitlines()[:1])


def without_password(message: str, url: str) -> str:
    """A message without the URL, and without any word of its password however the URL was misread."""
    secrets = [url.partition("://")[2].rpartition("@")[0].partition(":")[2]]
    secrets += [value for name, value in parse_qsl(url.partition("?")[2]) if _SECRET.search(name)]
    message = message.replace(url, "***")
    for word in {*re.findall(r"\w+", " ".join([*secrets, *map(unquote, secrets)]))}:
        message = re.sub(rf"\b{word}\b", "***", message)
    return message


def printable(text: str, but: str = "\n\t") -> str:
    """A text of the host's that can't take over the terminal."""
    return "".join(c if c.isprintable() or c in but else ascii(c)[1:-1] for c in text)


def cell(text: str) -> str:
    """A text of the host's in a table: on one line, and not too long for that."""
    shown = printable(text, but="")
    return shown if len(shown) <= 60 else shown[:57] + "..."
