"""docs/how-to/dramatiq.md: what it shows, run, on Redis and on RabbitMQ."""

import os
import signal
from dataclasses import replace

import pytest
from tests.docs.blocks import path, texts
from tests.docs.production import BackEnd, Deploys, Production, Site, eventually
from tests.losses.processes import session

pytestmark = pytest.mark.integration
PAGE = "how-to/dramatiq.md"


class TestOnRedis(Production):
    """Dramatiq on Redis."""

    back_end = BackEnd(
        "dramatiq",
        ready="is ready for action",
        processes=2,
        back=70,
        graces={"lifecycle": 75, "reports": 615},
        shorter=(
            "deploy/app-dramatiq-lifecycle@.service",
            "--worker-shutdown-timeout 75000",
            "--worker-shutdown-timeout 2000",
        ),
    )
    installing, doctor = texts(PAGE, "console")

    def test_commands_in_the_text_are_there(self, site: Site) -> None:
        page = path(PAGE).read_text()
        assert "`APP_QUEUE=dramatiq dramatiq app.dramatiq_app`" in page  # which the units run as well
        assert "`redis-cli -u $REDIS_URL llen dramatiq:lifecycle`" in page
        site.send("first-0", "next-0", "--later")
        waiting = site.run("sh", "-c", "redis-cli -u $REDIS_URL llen dramatiq:lifecycle")
        assert waiting == "2\n"

    @pytest.mark.slow
    def test_a_sigterm_to_the_children_too_cuts_jobs_short(self, site: Site) -> None:
        site.start("lifecycle@1", "lifecycle@2")
        site.send("long-8")
        eventually(lambda: site.runs("long-8"), "the job to begin")
        name = site.runner("long-8")
        leader = site.services[name].pid
        assert leader is not None
        for pid in session(leader):
            if pid != leader:
                os.kill(pid, signal.SIGTERM)
        eventually(lambda: "Stopping worker process" in site.log(name), "the children to hear of it")
        os.kill(leader, signal.SIGTERM)
        eventually(lambda: site.runs("long-8") == ["begin", "begin"], "another run", self.back_end.back)
        eventually(lambda: "end" in site.runs("long-8"), "the job to end")
        assert site.runs("long-8") == ["begin", "begin", "end"]


class TestOnRabbitmq(Deploys):
    """Dramatiq on RabbitMQ, with a store."""

    back_end = replace(TestOnRedis.back_end, back=25, rabbit=True)
    doctor = TestOnRedis.doctor
