"""The READMEs' way to RQ, the capability table and the demo, as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from adapters.rq.tests.support import URL, reach
from tests.docs.blocks import README, blocks, blocks_of, path, texts
from tests.queues.harness import eventually

from sigra_workers import CAPABILITIES, AuditScope, Workers
from sigra_workers_rq import RqAdapter

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
PAGE: Final = "adapters/rq/README.md"
(REGISTRY,) = texts(PAGE, "python", having="workers = ")
(BOOT,) = blocks(PAGE, "python", having="boot(")
COMMANDS: Final = {
    page: text for page in (README, PAGE) for text in texts(page, "bash", "console", having="rq worker -c")
}
FILES: Final = {block.file: block.text for block in blocks_of(README) if block.file}


def test_both_readmes_have_the_same_boot_file() -> None:
    assert FILES["app/rq_lifecycle.py"] == BOOT.text


def test_its_registry_is_of_rq() -> None:
    names: dict[str, Any] = {"AuditScope": AuditScope, "Workers": Workers}
    exec(REGISTRY, names)
    assert isinstance(names["workers"].adapter, RqAdapter)


def test_the_capability_table_is_what_the_adapter_declares() -> None:
    declared = RqAdapter({"url": URL}).capabilities
    rows = [
        f"| `{name}` | {'yes' if name in declared else 'no'} | {what} |"
        for name, what in CAPABILITIES.items()
    ]
    table = "\n".join(["| capability | | |", "|---|---|---|", *rows])
    assert table in path(PAGE).read_text()


@pytest.mark.parametrize("readme", COMMANDS)
def test_the_first_job_runs_on_rq_with_the_command_of_the_readme(tmp_path: Path, readme: str) -> None:
    reach(URL).close()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    queue = f"lifecycle{os.getpid()}"
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace('"lifecycle"', repr(queue)))
    environment = {**os.environ, "APP_QUEUE": "rq", "REDIS_URL": URL}
    sent = subprocess.run(
        [sys.executable, "send.py"], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert sent.stdout == f"enqueued accounts.close on {queue}\n"
    (command,) = re.findall(r"^(?:\$ )?(rq worker (?:.*\\\n)*.*)", COMMANDS[readme], re.MULTILINE)
    words = [queue if word == "lifecycle" else word for word in shlex.split(command)]
    log = tmp_path / "log"
    with log.open("w") as output:
        worker = subprocess.Popen(
            [BIN / words[0], *words[1:]], cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
        try:
            eventually(lambda: "Job OK" in log.read_text(), "the job in the worker's log")
        finally:
            worker.terminate()
            worker.wait(20)
    assert f"accounts.close {sent_id(log.read_text())} organization='northwind'" in log.read_text()
    assert "acc_1" not in log.read_text()


def sent_id(log: str) -> str:
    return str(re.findall(r"Job OK \((\w+)\)", log)[0])


def demo_keys(connection: Any) -> set[str]:
    return {key for key in map(str, connection.keys("rq:*")) if "sigra-demo" in key}


def test_the_demo_on_rq_ends_every_job_with_its_own_ids() -> None:
    connection = reach(URL)
    before = demo_keys(connection)
    ran = subprocess.run(
        [BIN / "sigra-workers", "demo", "--adapter", "rq"],
        env={**os.environ, "REDIS_URL": URL},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.endswith("10 events, each with the ids of its job; all 8 jobs ended\n"), ran.stdout
    assert ran.returncode == 0
    left = demo_keys(connection)
    connection.close()
    assert left == before
