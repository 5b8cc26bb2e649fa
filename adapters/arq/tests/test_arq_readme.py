"""The READMEs' way to arq, the capability table and the demo, as they stand there."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from adapters.arq.tests.support import URL, reach
from arq import cron
from tests.docs.blocks import README, blocks, blocks_of, path, texts
from tests.queues.harness import eventually

from sigra_workers import CAPABILITIES, AuditScope, Workers
from sigra_workers_arq import ArqAdapter, boot

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
PAGE: Final = "adapters/arq/README.md"
(REGISTRY,) = texts(PAGE, "python", having="workers = ")
(BOOT,) = blocks(PAGE, "python", having="# app/arq_lifecycle.py")
(COMMAND,) = texts(PAGE, "bash", having="arq app.")
(BESIDE,) = texts(PAGE, "python", having="functions=[send_mail]")
FILES: Final = {block.file: block.text for block in blocks_of(README) if block.file}


def test_both_readmes_have_the_same_boot_file() -> None:
    theirs = FILES["app/arq_lifecycle.py"]
    assert BOOT.text.splitlines()[1:] == theirs.splitlines()[1:]


def test_its_registry_is_of_arq() -> None:
    names: dict[str, Any] = {"AuditScope": AuditScope, "Workers": Workers}
    exec(REGISTRY, names)
    assert isinstance(names["workers"].adapter, ArqAdapter)


def test_functions_and_cron_jobs_are_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_mail(ctx: dict[Any, Any], to: str) -> None: ...

    async def tidy(ctx: dict[Any, Any]) -> None: ...

    workers = Workers[AuditScope](adapter="arq", settings={"url": URL}, queues=["lifecycle"])
    for name in ("app", "app.jobs"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(workers=workers))
    names: dict[str, Any] = {"boot": boot, "cron": cron, "send_mail": send_mail, "tidy": tidy}
    exec(BESIDE, names)
    settings = names["WorkerSettings"]
    functions = [function.name for function in settings["functions"]]
    assert functions == ["sigra_workers_arq.dispatch", send_mail.__qualname__]
    assert [job.hour for job in settings["cron_jobs"]] == [3]


def test_the_capability_table_is_what_the_adapter_declares() -> None:
    declared = ArqAdapter({"url": URL}).capabilities
    rows = [
        f"| `{name}` | {'yes' if name in declared else 'no'} | {what} |"
        for name, what in CAPABILITIES.items()
    ]
    assert "\n".join(["| capability | | |", "|---|---|---|", *rows]) in path(PAGE).read_text()


def test_the_first_job_runs_on_arq_with_the_command_of_the_readme(tmp_path: Path) -> None:
    reach(URL).close()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    queue = f"lifecycle{os.getpid()}"
    for name, text in {**FILES, str(BOOT.file): BOOT.text}.items():
        (tmp_path / name).write_text(text.replace('"lifecycle"', repr(queue)))
    environment = {**os.environ, "APP_QUEUE": "arq", "REDIS_URL": URL}
    sent = subprocess.run(
        [sys.executable, "send.py"], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert sent.stdout == f"enqueued accounts.close on {queue}\n"
    name, *words = shlex.split(COMMAND)
    log = tmp_path / "log"
    with log.open("w") as output:
        worker = subprocess.Popen(
            [BIN / name, *words], cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
        try:
            eventually(
                lambda: ":sigra_workers_arq.dispatch ● " in log.read_text(), "the job's end in the log"
            )
        finally:
            worker.terminate()
            worker.wait(20)
    assert "acc_1" not in log.read_text()


def demo_keys(connection: Any) -> set[str]:
    return {str(key) for key in connection.keys("*sigra-demo*")}


def test_the_demo_on_arq_ends_every_job_with_its_own_ids() -> None:
    connection = reach(URL)
    before = demo_keys(connection)
    ran = subprocess.run(
        [BIN / "sigra-workers", "demo", "--adapter", "arq"],
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
    adapter = ArqAdapter({"url": URL})
    assert [job for job in adapter.dead_jobs({}) if (job.queue or "").startswith("sigra-demo-")] == []
    adapter.close()
