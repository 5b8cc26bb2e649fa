"""What happens to the jobs: each of these on every queue, side by side, fills rows of the table."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.losses.aging import age, latest_due
from tests.losses.back_ends import GRACE, BackEnd
from tests.losses.processes import Supervised
from tests.losses.servers import Server
from tests.losses.stage import Stage

OUTAGE: Final = 8
"""Seconds that a broker is away: longer than RQ's parent takes to see that."""
LONG_OUTAGE: Final = 75
"""The same, longer than anybody's patience: claims hold 30 s, RQ's and Dramatiq's heartbeats 60 s."""
ASLEEP: Final = 30
"""Seconds of a snooze that a broker goes away in."""
LONG: Final = 75
"""Seconds of a snooze: longer than RQ's and Dramatiq's heartbeats, RabbitMQ's consumer_timeout as set here,
arq's key of a job in progress, and the delays that are left to Dramatiq itself."""
YEAR: Final = 366 * 86_400
CRASHED: Final = "dead: crashed"
COMPLETED: Final = "completed"


@dataclass(frozen=True)
class Row:
    """One line of the table, for one queue."""

    title: str
    ends: tuple[str, ...] = (COMPLETED,)
    """How the job may end."""
    decides: bool = False
    """Whether its first run makes a decision that may be lost."""
    snooze: float = 0.0
    """Seconds that its first run snoozes, where it runs again by that alone: lateness is measured then."""


def _outage(what: str) -> dict[str, Row]:
    away = f"{what} killed, back after {OUTAGE} s; meanwhile the job"
    return {
        f"{what}: runs on": Row(f"{away} runs on"),
        f"{what}: completes": Row(f"{away} completes", decides=True),
        f"{what}: fails": Row(f"{away} fails", decides=True),
        f"{what}: fails for good": Row(
            f"{away} fails, on its last attempt", ("dead: refused", CRASHED), decides=True
        ),
        f"{what}: snoozes": Row(f"{away} snoozes", decides=True),
        f"{what}: asleep": Row(f"{away} is snoozed, for {ASLEEP} s", decides=True, snooze=ASLEEP),
        f"{what}: enqueued": Row(f"{what} away at enqueue; what was refused is enqueued again"),
    }


def _long_outage(what: str) -> dict[str, Row]:
    away = f"{what} killed, back after {LONG_OUTAGE} s; meanwhile the job"
    return {
        f"{what}, long: runs on": Row(f"{away} runs on"),
        f"{what}, long: completes": Row(f"{away} completes", decides=True),
        f"{what}, long: snoozes": Row(f"{away} snoozes", decides=True),
    }


ROWS: Final = {
    "killed": Row("worker killed in mid-job"),
    **_outage("broker"),
    **_long_outage("broker"),
    **_outage("store"),
    **_long_outage("store"),
    "stopped": Row("SIGTERM in mid-job, the job ends in time"),
    "stopped, too long": Row("SIGTERM in mid-job, the job takes too long and is cut short"),
    "poison": Row("the job kills its process each time (2 attempts)", (CRASHED,)),
    "poison, all": Row("the job kills the whole worker each time (2 attempts)", (CRASHED,)),
    "long snooze": Row(f"a snooze of {LONG} s, longer than the queue's time-outs", decides=True, snooze=LONG),
    "year": Row("a snooze of 366 days, its Redis killed meanwhile, time moved", decides=True),
}


def worker_killed(stage: Stage) -> None:
    """kill -9 of a worker and all it started."""
    stage.set_up()
    stage.send("killed", "hold:never ok", "ok")
    stage.running()
    stage.mark()
    stage.each_worker(Supervised.kill)
    stage.finish()


def broker_killed(stage: Stage) -> None:
    """kill -9 of the broker under running jobs."""
    stage.set_up(own_broker=True, jobs=12)
    _away(stage, "broker", stage.place.broker)


def store_killed(stage: Stage) -> None:
    """The same of the store beside a broker that stays."""
    stage.set_up(jobs=12)
    _away(stage, "store", stage.place.redis)


def _away(stage: Stage, what: str, server: Server) -> None:
    stage.send(f"{what}: runs on", "hold:back ok")
    stage.send(f"{what}: completes", "hold:away ok", "ok")
    stage.send(f"{what}: fails", "hold:away error:refused", "ok")
    stage.send(f"{what}: fails for good", "hold:away error:refused", max_attempts=1)
    stage.send(f"{what}: snoozes", "hold:away snooze:2", "ok")
    stage.running()
    asleep = f"{what}: asleep"
    stage.send(asleep, f"snooze:{ASLEEP}", "ok")
    stage.running(asleep)
    stage.mark(asleep, ahead=ASLEEP)
    time.sleep(2)
    server.kill()
    stage.open("away")
    jobs = [job for _ in range(2) for job in stage.jobs(f"{what}: enqueued", "ok").values()]
    refused = stage.send_in_vain(jobs)
    time.sleep(OUTAGE)
    server.start()
    stage.mark(*(row for row in _outage(what) if row != asleep))
    stage.open_later("back", 1)
    stage.host.workers.enqueue_many(refused)
    stage.finish()


def broker_away_for_long(stage: Stage) -> None:
    """The broker does not come back for long."""
    stage.set_up(own_broker=True, jobs=6)
    _away_for_long(stage, "broker", stage.place.broker)


def store_away_for_long(stage: Stage) -> None:
    """The store does not."""
    stage.set_up(jobs=6)
    _away_for_long(stage, "store", stage.place.redis)


def _away_for_long(stage: Stage, what: str, server: Server) -> None:
    stage.send(f"{what}, long: runs on", "hold:back ok")
    stage.send(f"{what}, long: completes", "hold:away ok", "ok")
    stage.send(f"{what}, long: snoozes", "hold:away snooze:2", "ok")
    stage.running()
    server.kill()
    stage.open("away")
    time.sleep(LONG_OUTAGE)
    server.start()
    stage.mark()
    stage.open_later("back", 5)
    stage.finish()


def worker_stopped(stage: Stage) -> None:
    """SIGTERM, as in each deploy, and a job that ends soon after."""
    stage.set_up()
    stage.send("stopped", "hold:stopping ok", "ok")
    stage.running()
    stage.mark()
    stage.open_later("stopping", 2)
    stage.each_worker(lambda worker: worker.stop(30))
    stage.finish()


def worker_stopped_too_long(stage: Stage) -> None:
    """SIGTERM, and a job that does not end in the time it is given."""
    stage.set_up(grace=GRACE)
    stage.send("stopped, too long", "hold:never ok", "ok")
    stage.running()
    stage.mark()
    stage.each_worker(lambda worker: worker.stop(GRACE + 6))
    stage.finish()


def poison(stage: Stage) -> None:
    """A job that kills the process it runs in."""
    stage.set_up()
    stage.send("poison", "kill", kinds=["async"], max_attempts=2)
    stage.running()
    stage.mark()
    stage.finish()


def poison_for_all(stage: Stage) -> None:
    """A job that has its worker's whole tree killed, as one that fills a container's memory."""
    stage.set_up()
    stage.send("poison, all", "kill-all", kinds=["sync"], max_attempts=2)
    stage.running()
    stage.mark()
    stage.finish()


def long_snooze(stage: Stage) -> None:
    """A snooze in real time."""
    stage.set_up()
    stage.send("long snooze", f"snooze:{LONG}", "ok", timeout=1)
    stage.running()
    stage.mark(ahead=LONG)
    stage.finish()


def snooze_of_a_year(stage: Stage) -> None:
    """The longest snooze; Redis is stopped and started with it, and made a year older."""
    stage.set_up()
    stage.send("year", f"snooze:{YEAR}", "ok")
    stage.running()
    with stage.place.redis.client() as client:
        stage.until(lambda: latest_due(client) > time.time() + YEAR - 3_600, "the snooze")
        time.sleep(2)  # for the other one
        stage.each_worker(Supervised.end)
        stage.place.redis.kill()
        stage.place.redis.start()
        age(client, YEAR)
    stage.mark()
    stage.each_worker(Supervised.start)
    stage.finish()


CATASTROPHES: Final[dict[str, tuple[Callable[[Stage], None], tuple[str, ...]]]] = {
    "poison-all": (poison_for_all, ("poison, all",)),
    "broker-away": (broker_away_for_long, tuple(_long_outage("broker"))),
    "store-away": (store_away_for_long, tuple(_long_outage("store"))),
    "poison": (poison, ("poison",)),
    "broker-killed": (broker_killed, tuple(_outage("broker"))),
    "store-killed": (store_killed, tuple(_outage("store"))),
    "long-snooze": (long_snooze, ("long snooze",)),
    "worker-killed": (worker_killed, ("killed",)),
    "stopped-too-long": (worker_stopped_too_long, ("stopped, too long",)),
    "stopped": (worker_stopped, ("stopped",)),
    "year": (snooze_of_a_year, ("year",)),
}
"""Each with the rows it fills; the slowest first."""


def cells(back_end: BackEnd) -> list[tuple[str, str]]:
    """What happens on that queue: (catastrophe, row), in the table's order."""
    of = {row: name for name, (_, rows) in CATASTROPHES.items() for row in rows}
    return [(of[row], row) for row in ROWS if back_end.rabbit or not row.startswith("store")]
