"""Starting worker processes: what `boot` refuses, warns of, and leaves alone; deploys."""

import inspect
import multiprocessing
import sys
import threading
from typing import Any, Final, cast

import dramatiq.cli
import pytest
from adapters.dramatiq.tests.support import BOOT, REDIS_URL, Harness
from tests.queues.harness import eventually, script
from tests.queues.host import StepArgs

from sigra_workers import Workers
from sigra_workers_dramatiq.middleware import Process

pytestmark = pytest.mark.integration
NEXT: Final = "dramatiq_host.dramatiq_app_next"


# -- the boot ------------------------------------------------------------------------------------------


def test_jobs_wait_until_the_main_process_has_heard_of_the_boot(queue: Harness) -> None:
    adapter: Any = queue.host.workers.adapter
    process = Process(adapter, cast(Any, None), ())
    thread = threading.Thread(target=process.after_worker_thread_boot, args=(adapter.broker, None))

    def worker_process(event: Any) -> None:
        assert [*inspect.signature(dramatiq.cli.worker_process).parameters][-1] == "event"
        process.before_worker_boot(adapter.broker, cast(Any, None))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        event.set()

    worker_process(multiprocessing.Event())
    thread.join(10)
    assert not thread.is_alive()


# -- deploys -------------------------------------------------------------------------------------------


def test_a_job_of_an_unknown_worker_waits_for_the_process_that_knows_it(queue: Harness) -> None:
    ref = queue.host.workers.declare("steps.new", StepArgs, queue=queue.queue).enqueue(script("ok"))
    old = queue.worker()
    old.logged(f"worker 'steps.new' is not implemented in this process: job {ref.id} waits for it")
    eventually(lambda: queue.parked(ref.id), "the job to wait")
    assert queue.dead_letters() == []
    old.stop()
    queue.worker(boot=NEXT)
    queue.wait(ref.id)
    (run,) = queue.runs(ref.id)
    assert (run["attempt"], run["snoozes"]) == (1, 0)


def test_a_job_without_a_store_waits_as_well(storeless: Harness) -> None:
    ref = storeless.host.workers.declare("steps.new", StepArgs, queue=storeless.queue).enqueue(script("ok"))
    old = storeless.worker()
    old.logged(f"worker 'steps.new' is not implemented in this process: job {ref.id} waits for it")
    old.stop()
    storeless.worker(boot=NEXT)
    storeless.wait(ref.id)


def test_a_job_of_a_worker_that_is_declared_alone_waits_for_its_implementation(queue: Harness) -> None:
    ref = queue.host.sync.enqueue(script("ok"))
    bare = queue.worker(boot="dramatiq_host.dramatiq_app_bare")
    bare.logged("worker 'steps.sync' is not implemented in this process: its jobs wait for one that does")
    bare.logged(f"job {ref.id} waits for it")
    bare.stop()
    queue.worker()
    queue.wait(ref.id)
    assert [run["attempt"] for run in queue.runs(ref.id)] == [1]


def test_jobs_of_an_old_name_run_by_its_alias(queue: Harness) -> None:
    with Workers(adapter="dramatiq", settings=queue.settings) as old:
        handle = old.declare("steps.old", StepArgs, queue=queue.queue, backoff=0)
        ref = handle.enqueue(script("error:no", "ok"))
    queue.worker()
    queue.wait(ref.id)
    assert queue.decisions(ref.id) == ["retry", "complete"]


# -- without a boot file ---------------------------------------------------------------------------------


def test_a_process_may_be_bound_by_the_environment(queue: Harness) -> None:
    ref = queue.host.sync.enqueue(script("ok"))
    environment = {"SIGRA_WORKERS": "dramatiq_host.implementations:workers"}
    queue.worker(boot="sigra_workers_dramatiq.worker", environment=environment)
    queue.wait(ref.id)


def test_a_process_that_is_bound_to_nothing_ends_and_says_what_to_do(on_redis: Harness) -> None:
    process = on_redis.worker(boot="sigra_workers_dramatiq.worker", ready=False)
    assert process.popen.wait(30) != 0
    assert "WorkersNotBoundError: this dramatiq worker process is bound to no Workers object" in process.log
    assert "start it with its boot file: dramatiq app.dramatiq_app" in process.log


# -- what boot refuses ---------------------------------------------------------------------------------

HERE: Final = (
    "from sigra_workers_dramatiq import boot; import dramatiq;"
    " from dramatiq_host.jobs import workers; from tests.queues.host import StepArgs; "
)
REFUSED: Final = {
    "boot('dramatiq_host.jobs:nothing')": "NotFoundError: 'dramatiq_host.jobs:nothing' leads to no Workers",
    "boot('dramatiq_host.elsewhere:workers')": "these workers use adapter 'memory', expected 'dramatiq'",
    "boot(workers); boot(workers)": "there is an actor named 'steps.sync' already",
    "dramatiq.actor(print, broker=workers.adapter.broker, actor_name='steps.async'); boot(workers)": (
        "there is an actor named 'steps.async' already: give the worker or the actor another name"
    ),
    "workers.declare('x', StepArgs, queue='q.DQ'); boot(workers)": "'q.DQ' ends as Dramatiq's own queues do",
    "workers.declare('x', StepArgs, queue='a:q'); boot(workers)": "'a:q' holds a colon",
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_boot_refuses(on_redis: Harness, code: str) -> None:
    process = on_redis.run([sys.executable, "-c", HERE + code])
    assert process.popen.wait(30) == 1
    assert REFUSED[code] in process.log


# -- what boot warns of --------------------------------------------------------------------------------

MAKE: Final = (
    "import dramatiq; from dramatiq.brokers.rabbitmq import RabbitmqBroker as Rabbit;"
    " from dramatiq.brokers.redis import RedisBroker as Redis; from sigra_workers_dramatiq import boot;"
    " from dramatiq_host.jobs import make_host; "
)
WARNED: Final = {
    f"boot(make_host({{'broker': Redis(url={REDIS_URL!r})}}).workers)": (
        "maintenance_chance is 1000 of 1000000: jobs of a process that died may wait long"
    ),
    "boot(make_host({'url': 'amqp://here'}).workers)": "RabbitMQ without a store: crashes are not counted",
    "boot(make_host({'broker': Rabbit(url='amqp://here')}).workers)": "make it with confirm_delivery=True",
    f"dramatiq.set_broker(Redis()); boot(make_host({{'url': {REDIS_URL!r}}}).workers)": (
        "Dramatiq's global broker is another than that of the workers: name theirs in the command"
    ),
}


@pytest.mark.parametrize("code", WARNED)
def test_what_boot_warns_of(on_redis: Harness, code: str) -> None:
    process = on_redis.run([sys.executable, "-c", MAKE + code])
    assert process.popen.wait(30) == 0
    assert WARNED[code] in process.log


def test_boot_with_all_that_is_needed_warns_of_nothing(on_redis: Harness) -> None:
    code = f"import {BOOT}, dramatiq; from dramatiq_host.jobs import workers;"
    code += " assert dramatiq.get_broker() is workers.adapter.broker"
    process = on_redis.run([sys.executable, "-W", "error", "-c", code])
    assert process.popen.wait(30) == 0
    assert process.log == ""
