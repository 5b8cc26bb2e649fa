"""The words of our code, of the code that pages show, and of others."""

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tests.docs import blocks

_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_NUMBER: Final = re.compile(r"\d[\d_]*")

_OTHERS: Final = """
Python and its libraries:
AsyncIO COMMIT_MODE DeserializationError DramatiqIntegration QueueHandler SimpleWorker SpawnWorker
allow_abort_jobs atexit conftest get_broker get_global_textmap integrations keep_result max_backoff
max_priority requeue require_tenant robust send_default_pii send_stop_job_command RQ_REDIS_URL
OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE delta

Databases and servers:
BYPASSRLS allkeys auto_increment bgrewriteaof bigserial integer llen lru purge_queue rediss smallint
varchar vhost

Who runs processes:
analyze compose docker internal service systemd terminationGracePeriodSeconds verify yaml

Made up for an example, or not used yet:
FakeAccounts MyArgs MyScope left_at other_audit refreshToken sig
"""


def words(text: str) -> list[str]:
    """The names in a text, without their numbers: an example may have an `acc_3` more than the code."""
    return _WORD.findall(_NUMBER.sub("", text))


OTHERS: Final = frozenset(
    word for line in _OTHERS.splitlines() if not line.endswith(":") for word in words(line)
)
"""What is named on a page, and is in none of that code."""


@cache
def known() -> set[str]:
    """All words but those of others."""
    found = set(dir(builtins))
    for folder in ("src", "adapters/*/src", "examples", "docs/_extensions"):
        for place in blocks.ROOT.glob(folder):
            for file in place.rglob("*.py"):
                found.update(of(file))
    for page in blocks.pages():
        shown = [block.text for block in blocks.blocks_of(page) if block.language != "text"]
        shown += [included.target.read_text() for included in blocks.directives(page, "literalinclude")]
        for text in shown:
            found.update(words(text))
    for name in ("Makefile", "pyproject.toml"):
        found.update(words((blocks.ROOT / name).read_text()))
    return found


@cache
def strings(folder: Path) -> set[str]:
    """The string constants of the Python files in a folder, without docstrings."""
    files = (ast.parse(file.read_text()) for file in folder.rglob("*.py"))
    return {text for tree in files for text in _strings_of(tree)}


@cache
def of(file: Path) -> set[str]:
    """The names and the words of strings in a Python file, without docstrings and comments."""
    tree = ast.parse(file.read_text())
    found = {*_strings_of(tree)}
    for node in ast.walk(tree):
        names = (getattr(node, name, None) for name in ("arg", "asname", "attr", "id", "module", "name"))
        found.update(name for name in names if isinstance(name, str))
    return {word for text in found for word in words(text)}


def _strings_of(tree: ast.AST) -> Iterator[str]:
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value
