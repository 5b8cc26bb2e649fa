"""docs/how-to/rq.md: what it shows, run."""

import os
import re
import shlex
import signal

import pytest
from tests.docs.blocks import ROOT, path, texts
from tests.docs.production import CODE, BackEnd, Production, Site, eventually
from tests.docs.terminal import commands
from tests.losses.processes import session

pytestmark = pytest.mark.integration
PAGE = "how-to/rq.md"


class TestRq(Production):
    """RQ."""

    back_end = BackEnd("rq", ready="Listening on", back=100)
    installing, doctor = texts(PAGE, "console")

    @pytest.mark.slow
    @pytest.mark.wheels
    @pytest.mark.timeout(300)
    def test_the_image_holds_what_its_command_needs(self, site: Site) -> None:
        (build, _), (install, _) = commands(self.installing.replace("/path/to/sigra-workers", str(ROOT)))
        site.run(*shlex.split(build))
        (site.folder / "requirements.txt").write_text(install.split()[-1])
        place, path = site.image(CODE / "Dockerfile")
        with site.container("lifecycle", place, path):
            site.send("first-0")
            eventually(lambda: site.runs("first-0") == ["begin", "end"], "the job to end")

    def test_a_sigterm_to_the_child_too_cuts_its_job_short(self, site: Site) -> None:
        site.start("lifecycle@1", "lifecycle@2")
        site.send("long-4")
        eventually(lambda: site.runs("long-4"), "the job to begin")
        leader = site.services[site.runner("long-4")].pid
        assert leader is not None
        for pid in session(leader):
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: site.runs("long-4") == ["begin", "begin"], "the job to begin again", 5)
        eventually(lambda: "end" in site.runs("long-4"), "the job to end")
        assert site.runs("long-4") == ["begin", "begin", "end"]

    def test_the_schedule_is_handed_over_by_sigterm(self, site: Site) -> None:
        site.start("lifecycle@1")
        eventually(lambda: "Acquired scheduler lock" in site.log("lifecycle@1"), "a scheduler")
        site.start("lifecycle@2")
        site.send("--later")  # in 2 s
        site.services["lifecycle@1"].stop(30)
        eventually(lambda: site.runs("late-0") == ["begin", "end"], "the job", 15)

    @pytest.mark.parametrize("line", re.findall(r"`(?:APP_QUEUE=rq )?(rq [^`]*)`", path(PAGE).read_text()))
    def test_commands_in_the_text_are_rqs(self, site: Site, line: str) -> None:
        command = shlex.split(line.replace("$REDIS_URL", site.redis.url))
        match command[1]:
            case "info":
                site.send("first-0")
                site.send("first-0", "next-0", queue="reports")
                said = site.run(*command, "--raw")
                waiting = re.findall(r"^queue (\w+) (\d+)", said, re.MULTILINE)
                assert sorted(waiting) == [("lifecycle", "1"), ("reports", "2")]
            case "worker-pool":
                assert "--worker-ttl" not in site.run(*command, "--help")
                assert "--worker-ttl" in site.run("rq", "worker", "--help")
            case _ if len(command) > 2:
                site.send("first-0")
                site.run(*command, "--burst")
                assert site.runs("first-0") == ["begin", "end"]
            case _:
                assert command == ["rq", "worker"]


def test_the_pages_of_the_queues_are_twins() -> None:
    pages = {queue: path(f"how-to/{queue}.md").read_text() for queue in ("rq", "arq", "dramatiq")}
    headings = {queue: re.findall(r"^## (.*)", page, re.MULTILINE) for queue, page in pages.items()}
    headings["dramatiq"].remove("RabbitMQ")
    assert headings["rq"] == headings["arq"] == headings["dramatiq"]
