"""docs/how-to/arq.md: what it shows, run."""

import subprocess

import pytest
from tests.docs.blocks import path, texts
from tests.docs.production import BackEnd, Production, Site, eventually

pytestmark = pytest.mark.integration
PAGE = "how-to/arq.md"
SHORTER = ("app/arq_queues.py", "job_completion_wait=75", "job_completion_wait=1")
CHECK = ("arq", "app.arq_queues.Lifecycle", "--check")


class TestArq(Production):
    """arq."""

    back_end = BackEnd(
        "arq",
        ready="Starting worker for",
        back=30,
        graces={"lifecycle": 75, "reports": 615},
        shorter=SHORTER,
    )
    installing, doctor = texts(PAGE, "console")

    def test_an_async_job_that_takes_too_long_is_handed_back(self, site: Site) -> None:
        site.edit(*SHORTER)
        site.edit("app/implementations.py", "def perform", "async def perform")
        site.edit("app/implementations.py", "accounts.close(", "await accounts.aclose(")
        site.start("lifecycle@1", "lifecycle@2")
        site.send("long-4")
        eventually(lambda: site.runs("long-4"), "the job to begin")
        site.restart(site.runner("long-4"))
        eventually(lambda: "end" in site.runs("long-4"), "the job to end", 10)
        assert site.runs("long-4") == ["begin", "begin", "end"]

    def test_a_def_job_that_takes_too_long_ends_and_is_done_again(self, site: Site) -> None:
        site.edit(*SHORTER)
        site.start("lifecycle@1")
        site.send("long-4")
        eventually(lambda: site.runs("long-4"), "the job to begin")
        site.restart("lifecycle@1")
        assert site.exits("lifecycle@1") == ["0"]
        eventually(lambda: site.runs("long-4") == ["begin", "end"] * 2, "the job to end again", 10)

    def test_commands_in_the_text_are_there(self, site: Site) -> None:
        page = path(PAGE).read_text()
        assert f"`{' '.join(CHECK)}`" in page
        assert "`redis-cli -u $REDIS_URL zcard lifecycle`" in page
        site.send("first-0", "next-0", "--later")
        assert site.run("sh", "-c", "redis-cli -u $REDIS_URL zcard lifecycle") == "3\n"
        assert "`APP_QUEUE=arq arq app.arq_queues.Lifecycle`" in page  # which the units run as well

    def test_arqs_own_check_forgets_those_that_live(self, site: Site) -> None:
        site.start("lifecycle@1")
        eventually(lambda: self.checked(site) == 0, "the check to succeed")
        site.start("lifecycle@2")
        site.services["lifecycle@2"].stop(30, for_good=True)
        assert self.checked(site) == 1

    @staticmethod
    def checked(site: Site) -> int:
        return subprocess.run(CHECK, cwd=site.folder, env=site.environment, check=False).returncode
