"""The README's way to Dramatiq and the demo, run as they stand there; its table of capabilities."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import dramatiq
import pytest
from adapters.dramatiq.tests.support import RABBITMQ_URL, REDIS_URL, SETTINGS, reach, reach_rabbitmq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import dq_name, xq_name
from tests.docs.blocks import README, blocks, blocks_of, path, texts
from tests.queues.harness import eventually

from sigra_workers import CAPABILITIES, AuditScope, Workers
from sigra_workers_dramatiq import DramatiqAdapter

pytestmark = pytest.mark.integration
BIN = Path(sys.executable).parent
PAGE: Final = "adapters/dramatiq/README.md"
(REGISTRIES,) = texts(PAGE, "python", having="amqp:")
(BOOT,) = blocks(PAGE, "python", having="boot(")
(COMMAND,) = texts(PAGE, "bash", having="dramatiq app.")
(BESIDE,) = texts(PAGE, "python", having="set_broker(")
FILES: Final = {block.file: block.text for block in blocks_of(README) if block.file}


def test_its_registries_are_of_dramatiq() -> None:
    redis, rabbitmq = (
        eval(made, {"AuditScope": AuditScope, "Workers": Workers})
        for made in REGISTRIES.split("workers = ")[1:]
    )
    assert isinstance(redis.adapter, DramatiqAdapter)
    assert isinstance(rabbitmq.adapter, DramatiqAdapter)
    assert rabbitmq.adapter.capabilities == redis.adapter.capabilities


def test_its_broker_of_plain_actors_is_that_of_our_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)  # as it is behind the test
    names: dict[str, Any] = {
        "AuditScope": AuditScope,
        "REDIS_URL": REDIS_URL,
        "RedisBroker": RedisBroker,
        "Workers": Workers,
        "dramatiq": dramatiq,
    }
    exec(BESIDE, names)
    assert names["workers"].adapter.broker is dramatiq.get_broker()


def test_the_table_of_capabilities_is_what_the_adapter_declares() -> None:
    ways = [DramatiqAdapter(SETTINGS[way]).capabilities for way in ("redis", "rabbitmq", "storeless")]
    rows = []
    for name, what in CAPABILITIES.items():
        has = ["with `Results`" if name == "results" else "yes" if name in way else "no" for way in ways]
        rows.append(f"| `{name}` | {' | '.join(has)} | {what} |")
    assert "\n".join(rows) in path(PAGE).read_text()


def test_the_first_job_runs_with_the_command_of_the_readme(tmp_path: Path) -> None:
    reach(REDIS_URL).close()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    queue = f"lifecycle{os.getpid()}"
    for name, text in {**FILES, str(BOOT.file): BOOT.text}.items():
        (tmp_path / name).write_text(text.replace('"lifecycle"', repr(queue)))
    environment = {**os.environ, "APP_QUEUE": "dramatiq", "REDIS_URL": REDIS_URL}
    sent = subprocess.run(
        [sys.executable, "send.py"], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert sent.stdout == f"enqueued accounts.close on {queue}\n"
    words = shlex.split(COMMAND)
    log = tmp_path / "log"
    with log.open("w") as output:
        worker = subprocess.Popen(
            [BIN / words[0], *words[1:]], cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
        try:
            eventually(lambda: "account.closed" in log.read_text(), "the audit event in the worker's log")
        finally:
            worker.terminate()
            worker.wait(30)
    assert "WARNING" not in log.read_text()


@pytest.mark.parametrize("url", [REDIS_URL, RABBITMQ_URL], ids=["redis", "rabbitmq"])
def test_the_demo_ends_every_job_with_its_own_ids(url: str) -> None:
    connection = reach(REDIS_URL)
    settings = {"url": url} if url == REDIS_URL else {"url": url, "store": REDIS_URL}
    ran = subprocess.Popen(
        [BIN / "sigra-workers", "demo", "--adapter", "dramatiq"],
        env={**os.environ, "REDIS_URL": REDIS_URL, "DRAMATIQ_URL": url},
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = ran.communicate(timeout=60)
    assert output.endswith("10 events, each with the ids of its job; all 8 jobs ended\n"), output
    assert ran.returncode == 0
    queue = f"sigra-demo-{ran.pid}"
    assert connection.keys(f"*{queue}*") == []
    connection.close()
    adapter = DramatiqAdapter(settings)
    assert [job.id for job in adapter.dead_jobs({}) if job.queue == queue] == []
    adapter.close()
    if url == RABBITMQ_URL:
        with reach_rabbitmq(url) as rabbitmq:
            for name in (queue, dq_name(queue), xq_name(queue)):
                with pytest.raises(Exception, match="NOT_FOUND"):
                    rabbitmq.channel().queue_declare(name, passive=True)
