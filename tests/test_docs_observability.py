"""docs/how-to/observability.md: its code, run as it stands there, and its list of the hooks."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from tests.docs.blocks import path, texts

from sigra_workers import Decision, hooks
from sigra_workers.logs import JobFields

PAGE: Final = path("how-to/observability.md").read_text()
BLOCKS: Final = texts("how-to/observability.md", "python")
HOOKS: Final = [name for name, found in vars(hooks).items() if hasattr(found, "sigra_workers_spec")]

BEFORE: Final = """
import functools

import sentry_sdk
from sentry_sdk.transport import Transport

sent_to_sentry = []


class Kept(Transport):
    def capture_envelope(self, envelope):
        sent_to_sentry.extend(item.payload.json for item in envelope.items if item.type == "event")


sentry_sdk.init = functools.partial(sentry_sdk.init, transport=Kept)
"""
"""Sentry without a server."""

BEHIND: Final = """
import io
import json
import time

from sigra_workers import Cancel, Ok, tenant_args
from sigra_workers.memory import MemoryAdapter

args = {**tenant_args(organization_id="northwind", actor_id="ann"), "token": "s3cr3t"}
log = logging.getLogger("app")
handler.setStream(io.StringIO())
printed = io.StringIO()
structured = structlog.wrap_logger(structlog.PrintLogger(printed))


def run(workers, perform):
    handle = workers.worker(name="accounts.close")(perform)
    ref = handle.enqueue(args)
    MemoryAdapter.of(workers).drain()
    return ref.id


def slowly(scope, args):
    time.sleep(0.11)
    log.warning("performed")
    structured.info("performed")
    return Ok()


def known(scope, args):
    return Ok(request_id.get())


found = {}
found["slow"] = run(workers, slowly)
found["slow_workers"] = [worker for worker, _ in slow.runs]
log.warning("behind")
found["log"] = handler.stream.getvalue().splitlines()
found["structured"] = json.loads(printed.getvalue())
request_id.set("r1")
knowing = Workers(plugins=[RequestIds()])
request_id_of = run(knowing, known)
found["request_id"] = MemoryAdapter.of(knowing).results[request_id_of]
found["traced"] = run(traced, lambda scope, args: Ok())
provider.force_flush()
found["dead"] = run(reported, lambda scope, args: Cancel("withdrawn"))
MemoryAdapter.of(reported).put("{}")
MemoryAdapter.of(reported).drain()
sentry_sdk.flush()
found["sentry"] = sent_to_sentry
print("FOUND", json.dumps(found))
"""
"""Jobs that the page's plugins see."""

Found = dict[str, Any]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What they saw, and what was printed: in a process of its own, as Sentry changes a whole process."""
    program = "\n\n".join([BEFORE, *BLOCKS, BEHIND])
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path_factory.mktemp("page"),
    )
    assert ran.returncode == 0, ran.stderr
    printed, _, last = ran.stdout.partition("FOUND ")
    return {**json.loads(last), "printed": printed}


# -- its code ----------------------------------------------------------------------------------------------


def test_its_plugin_notes_a_slow_run(found: Found) -> None:
    assert found["slow_workers"] == ["accounts.close"]


def test_its_plugin_brings_the_id_of_a_request_to_the_run(found: Found) -> None:
    assert found["request_id"] == "r1"


def test_its_handler_names_the_job_that_logs_and_none_behind_it(found: Found) -> None:
    performed, behind = (line for line in found["log"] if line.endswith(("performed", "behind")))
    assert performed == f"WARNING {found['slow']} northwind performed"
    assert behind == "WARNING None None behind"


def test_its_processor_of_structlog_names_the_job(found: Found) -> None:
    assert found["structured"] == {
        "job_id": found["slow"],
        "worker": "accounts.close",
        "organization_id": "northwind",
        "attempt": 1,
        "event": "performed",
        "level": "info",
    }


def test_its_traces_are_exported(found: Found) -> None:
    spans = json.loads("[" + re.sub(r"^}\n{", "},{", found["printed"], flags=re.MULTILINE) + "]")
    assert [span["name"] for span in spans] == ["enqueue default", "perform default"]
    sent, run = spans
    assert run["attributes"]["messaging.message.id"] == found["traced"]
    assert run["links"][0]["context"]["span_id"] == sent["context"]["span_id"]


def test_its_plugin_reports_a_dead_job_to_sentry_once_and_one_that_nobody_can_read(found: Found) -> None:
    dead, unreadable = found["sentry"]
    tags = {"job_id": found["dead"], "worker": "accounts.close", "organization_id": "northwind"}
    assert dead["tags"] == tags
    assert dead["exception"]["values"][-1]["type"] == "JobCancelledError"
    assert "is dead" in unreadable["logentry"]["message"]
    assert "s3cr3t" not in json.dumps(found)


@pytest.mark.typing
def test_its_code_is_typed(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("\n\n".join(BLOCKS))
    command = [sys.executable, "-m", "mypy", "--strict", "page.py"]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "Success" in ran.stdout, ran.stdout


# -- what it says ------------------------------------------------------------------------------------------


def test_it_lists_every_hook_with_its_exact_arguments() -> None:
    rows = dict(re.findall(r"^\| `(sigra_\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
    told = {name: re.findall(r"`(\w+)`", arguments) for name, arguments in rows.items()}
    assert told == {name: [*inspect.signature(getattr(hooks, name)).parameters] for name in HOOKS}


def test_it_names_every_decision() -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith("| `sigra_finished`"))
    assert re.findall(r'`"(\w+)"`', row) == [*get_args(Decision)]


def test_it_names_every_field_of_a_log_record() -> None:
    (line,) = (line for line in PAGE.splitlines() if line.startswith("`JobLogFilter` gives"))
    assert re.findall(r"`(\w+)`", line)[1:] == [*JobFields.__annotations__]
