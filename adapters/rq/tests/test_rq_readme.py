"""The READMEs' way to RQ and the demo, run as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from adapters.rq.tests.support import URL, eventually, reach
from redis import Redis

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent


def blocks(readme: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", readme.read_text(), re.DOTALL)


def files(readme: Path) -> dict[str, str]:
    return {m[1]: text for text in blocks(readme, "python") if (m := re.match(r"# (\S+\.py)\n", text))}


def test_both_readmes_have_the_same_boot_file() -> None:
    ours = files(ROOT / "adapters/rq/README.md")
    assert ours == {"app/rq_lifecycle.py": files(ROOT / "README.md")["app/rq_lifecycle.py"]}


@pytest.mark.parametrize("readme", ["README.md", "adapters/rq/README.md"])
def test_the_first_job_runs_on_rq_with_the_command_of_the_readme(tmp_path: Path, readme: str) -> None:
    reach(URL).close()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    queue = f"lifecycle{os.getpid()}"
    for name, text in files(ROOT / "README.md").items():
        (tmp_path / name).write_text(text.replace('"lifecycle"', repr(queue)))
    environment = {**os.environ, "APP_QUEUE": "rq", "REDIS_URL": URL}
    sent = subprocess.run(
        [sys.executable, "send.py"], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert sent.stdout == f"enqueued accounts.close on {queue}\n"
    shell = "".join(blocks(ROOT / readme, "console" if readme == "README.md" else "bash"))
    (command,) = re.findall(r"^(?:\$ )?(rq worker (?:.*\\\n)*.*)", shell, re.MULTILINE)
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


def demo_keys(connection: "Redis") -> set[str]:
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
    assert ran.stdout.endswith("11 events, 0 with another job's ids; 0 jobs did not end\n"), ran.stdout
    assert ran.returncode == 0
    left = demo_keys(connection)
    connection.close()
    assert left == before
