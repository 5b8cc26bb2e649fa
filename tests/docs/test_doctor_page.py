"""docs/how-to/doctor.md: what its commands print, where Redis and a worker process are as it has them."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from redis import Redis
from tests.docs.application import Application, eventually
from tests.docs.blocks import blocks, code, path
from tests.docs.terminal import commands, fits
from tests.losses.servers import RedisServer

pytestmark = pytest.mark.integration

PAGE: Final = "how-to/doctor.md"
CODE: Final = code("docs/code/production")
((WHOLE, SHOWN),), ((SOME, _),) = (commands(block.text) for block in blocks(PAGE, "console"))
WORKER: Final = "rq worker -c app.rq_lifecycle --serializer json --with-scheduler --worker-ttl 20"


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    """Its Redis keeps no log of its writes, and of its two queues one has no worker process."""
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    shutil.copytree(CODE / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    application = Application(tmp_path, {"APP_QUEUE": "rq", "REDIS_URL": redis.url})
    try:
        application.start(f"{WORKER} lifecycle").logged("Listening on lifecycle")
        with Redis.from_url(redis.url) as client:
            eventually(lambda: client.exists("rq:scheduler-lock:lifecycle"), "the scheduler")
            client.config_set("appendonly", "no")
        yield application
    finally:
        application.close()
        redis.kill()


def test_its_commands_print_what_it_shows(application: Application) -> None:
    said = application.run(*WHOLE.split(), status=1)
    assert fits(SHOWN, said), said
    found = json.loads(application.run(*SOME.split(), status=1))
    assert {entry["check"].partition(".")[0] for entry in found} == {"redis", "queues"}
    keys = re.search(r"a list of objects (.*?):", path(PAGE).read_text())
    assert keys is not None
    assert all([*entry] == re.findall(r"`(\w+)`", keys[1]) for entry in found)
