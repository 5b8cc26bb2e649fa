"""docs/how-to/erase-an-organization.md, done, and on each queue what is left."""

import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest
from tests.docs.blocks import code, path, texts
from tests.docs.production import eventually
from tests.docs.queues import WORKERS, Place, place
from tests.losses.servers import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]

PAGE: Final = "how-to/erase-an-organization.md"
CODE: Final = code("docs/code/erase")
LEAVE, SWEEP, EXPORT = texts(PAGE, "console")
# In place of the application's own work. Reports say what is to happen.
WORK: Final = """
import os
import time


def build(organization_id, report_id):
    note(f"begin {report_id}")
    if report_id.startswith("long"):
        time.sleep(5)
    if report_id.startswith("dead"):
        raise ZeroDivisionError("a broken report")
    note(f"end {report_id}")


def note(line):
    with open(os.environ["RUNS"], "a") as file:
        file.write(f"{line}\\n")
"""
SEND: Final = """
import sys

from app.jobs import ReportArgs, build_report
from sigra_workers import organization_args

organization_id, *reports = sys.argv[1:]
who = organization_args(organization_id=organization_id, actor_id=f"ann of {organization_id}")
for report in reports:
    seconds = {"later": 9, "far": 86_400}.get(report.partition("-")[0], 0)
    args = ReportArgs(**who, report_id=report)
    build_report.enqueue(args, schedule_in=seconds, max_attempts=1)
"""
BEGIN: Final = """
from app.database import engine, join, metadata

metadata.create_all(engine)
join("acme")
join("northwind")
"""
DEAD: Final = """
from app.jobs import workers

answer = [(job.organization_id, job.reason) for job in workers.dead()]
"""
EVENTS: Final = """
from app.database import engine, events
from sqlalchemy import select

found = select(events.c.organization_id, events.c.action, events.c.target_id).order_by(events.c.id)
with engine.connect() as connection:
    answer = [tuple(row) for row in connection.execute(found)]
"""
BACK: Final = """
from app.database import engine, organizations
from app.jobs import workers
from sqlalchemy import update

with engine.begin() as connection:
    connection.execute(update(organizations).values(left_at=None))
answer = len({})
"""
CANCELLED: Final = ["acme", "cancelled: the organization has left"]


@pytest.fixture(params=[*WORKERS])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Place]:
    with place(request, CODE, "reports", tmp_path) as found:
        found.write({"app/reports.py": WORK, "send.py": SEND, "begin.py": BEGIN})
        found.run("python begin.py")
        found.worker.start()
        yield found


def go(site: Place) -> None:
    """Acme leaves, in the middle of its jobs."""
    site.run("python send.py acme dead-acme")
    eventually(lambda: site.ask(DEAD), "its job to die")
    site.run("python send.py northwind later-northwind far-northwind")
    site.run("python send.py acme long-acme later-acme far-acme")
    eventually(lambda: "begin long-acme" in site.runs, "its job to run")
    site.show(LEAVE)
    site.run("python send.py acme after-acme")
    eventually(lambda: site.ask(DEAD).count(CANCELLED) == 2, "its jobs to be cancelled", 60)
    eventually(lambda: "end later-northwind" in site.runs, "the other's job", 60)


def mentions(redis: RedisServer, text: str) -> Generator[tuple[str, str]]:
    """The keys of Redis that hold a text, or have it in their name, and their values."""
    with redis.client() as client:
        read = {
            "string": client.get,
            "hash": client.hgetall,
            "list": lambda key: client.lrange(key, 0, -1),
            "set": client.smembers,
            "zset": lambda key: client.zrange(key, 0, -1),
            "stream": client.xrange,
        }
        for key in client.scan_iter(count=1_000):
            value = str(read[client.type(key).decode()](key))
            if text in f"{key} {value}":
                yield key.decode(), value


@pytest.mark.parametrize("site", ["rq"], indirect=True)
def test_nothing_is_left_of_it_but_what_the_page_names(site: Place) -> None:
    go(site)
    began = {line.split()[1] for line in site.runs if line.startswith("begin")}
    assert began == {"dead-acme", "long-acme", "later-northwind"}
    assert "end long-acme" in site.runs
    assert sorted(site.ask(DEAD)) == [["acme", "ZeroDivisionError: a broken report"], CANCELLED, CANCELLED]
    assert site.run("python sweep.py") == ""  # they may come back
    site.edit("sweep.py", "days=30", "days=0")
    site.edit("sweep.py", "days=365", "days=0")
    site.show(EXPORT)
    (exported,) = (site.folder / "acme.jsonl").read_text().splitlines()
    assert json.loads(exported)["target_id"] == "long-acme"
    site.show(SWEEP)
    assert site.ask(DEAD) == []
    events = site.ask(EVENTS)
    assert sorted(map(str, events)) == [
        "['northwind', 'report.built', 'later-northwind']",
        "[None, 'organization.left', 'acme']",
    ]


def test_what_is_left_is_what_the_page_says(site: Place) -> None:
    with site.redis.client() as client:
        client.config_set("aof-use-rdb-preamble", "no")  # so that its file can be read here
    go(site)
    site.run("sigra-workers dead purge app.jobs:workers --organization acme --all --yes")
    page = path(PAGE).read_text()
    for command in re.findall(r"`(redis-cli [^`]*)`", page):
        site.run(command)
    eventually(
        lambda: "aof_rewrite_in_progress:0" in site.run("redis-cli -u $REDIS_URL info persistence"), "it"
    )
    left = " ".join(f"{key} {value}" for key, value in mentions(site.redis, "acme"))
    kept = {"long-acme", "far-acme"} if site.name == "rq" else {"far-acme"}
    assert {*re.findall(r"\w+-acme", left)} == kept
    assert ("arq:result:" in left) == (site.name == "arq")
    files = b"".join(file.read_bytes() for file in site.redis.folder.rglob("*") if file.is_file())
    assert {*re.findall(rb"\w+-acme", files)} == {report.encode() for report in kept}


@pytest.mark.parametrize("site", ["rq"], indirect=True)
def test_they_come_back_within_thirty_days(site: Place) -> None:
    go(site)
    (again,) = re.findall(r"`(workers\.resend\(.*?\))`", path(PAGE).read_text())
    assert site.ask(BACK.format(again)) == 3
    eventually(lambda: {"end later-acme", "end after-acme"} <= {*site.runs}, "what was cancelled", 60)
