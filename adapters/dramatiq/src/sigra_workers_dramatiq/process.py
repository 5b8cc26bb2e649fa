"""The worker process's side: the body of our actors, and what it does with the core's decision."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import dramatiq
from dramatiq import Actor
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage, Interrupt, SkipMessage
from dramatiq.results import Results

from sigra_workers import (
    Again,
    Complete,
    Dead,
    DeadJobError,
    Delivery,
    InvalidPayloadError,
    InvalidSettingsError,
    Outcome,
    Payload,
    Workers,
    adispatch,
)
from sigra_workers import dispatch as core_dispatch
from sigra_workers.adapters import report, storable, unreadable
from sigra_workers.boot import bind
from sigra_workers.errors import told
from sigra_workers.loops import held_back
from sigra_workers.store import Busy, Claim, Command, Stale
from sigra_workers_dramatiq import wire
from sigra_workers_dramatiq.adapter import DramatiqAdapter, check_queue
from sigra_workers_dramatiq.connect import MAINTENANCE
from sigra_workers_dramatiq.link import ThreadClient
from sigra_workers_dramatiq.middleware import Process

PAUSE: Final = 15.0
"""Seconds before a job that runs elsewhere is looked at again, at most."""
MAX_WAIT: Final = 5.0
"""Seconds between two tries to write a decision, at most."""
_COMMAND: Final = "dramatiq app.dramatiq_app"
_UNKNOWN: Final = "sigra-workers.unknown"
"""The actor of jobs whose worker is not known here."""
_OUTSIDE: Final = (KeyboardInterrupt, Interrupt)
_OPTIONS: Final[dict[str, Any]] = {
    # Not our business any more: retries, time-outs and results are the core's and this module's.
    "max_retries": 0,
    "throws": (Exception,),
    "time_limit": float("inf"),
    "max_age": None,
    "notify_shutdown": False,
    "store_results": False,
}
_GO_ON: Final = ("pipe_target", "group_completion_callbacks")
"""Options of a message which have Dramatiq send others when its job is done."""
_log: Final = logging.getLogger("sigra_workers.dramatiq")
T = TypeVar("T")


def boot(workers: str | Workers[Any] | None = None, /) -> Workers[Any]:
    """Bind this worker process to its `Workers`, ``module:attribute`` or the object: for the boot file.

    Without one it is that of the environment variable SIGRA_WORKERS. Declares their queues and an actor for
    each worker on the broker, which becomes Dramatiq's global one where none is set. Raises `NotFoundError`
    for a path that leads nowhere, `InvalidSettingsError` for workers of another adapter and for a name that
    an actor has, `InvalidOptionError` for a queue that Dramatiq can't have, `WorkersNotBoundError` without
    any; warns of what would leave jobs waiting.
    """
    found = bind(workers, "dramatiq", _COMMAND)
    adapter = DramatiqAdapter.of(found)
    broker = adapter.broker
    if not any(isinstance(there, CurrentMessage) for there in broker.middleware):
        broker.add_middleware(CurrentMessage())
    body = _Body(found)
    for queue in found.queues:
        check_queue(queue)
        broker.declare_queue(queue)
    options = {name: value for name, value in _OPTIONS.items() if name in broker.actor_options}

    def declare(name: str, queue: str) -> Actor[..., object]:
        if name in broker.actors:
            problem = f"there is an actor named {name!r} already: give the worker or the actor another name"
            raise InvalidSettingsError("dramatiq", problem)
        return dramatiq.actor(actor_name=name, queue_name=queue, broker=broker, **options)(body.run)

    for handle in found.handles:
        for name in (handle.name, *handle.aliases):
            declare(name, handle.queue)
    broker.add_middleware(Process(adapter, declare(_UNKNOWN, found.queues[0]), _OPTIONS))
    _check_broker(adapter)
    return found


def _check_broker(adapter: DramatiqAdapter) -> None:
    """Make it the global one where none is set; say what is off, and what would leave jobs waiting."""
    broker: Any = adapter.broker
    there = dramatiq.broker.global_broker
    if there is None:
        dramatiq.set_broker(broker)
    elif there is not broker:
        _log.warning(
            "Dramatiq's global broker is another than that of the workers: name theirs in the command, as in"
            " `dramatiq app.dramatiq_app:broker`, or give the global one as settings={'broker': ...}"
        )
    if isinstance(broker, RedisBroker) and broker.maintenance_chance < MAINTENANCE:
        _log.warning(
            "the broker's maintenance_chance is %d of 1000000: jobs of a process that died may wait long,"
            " make it with maintenance_chance=1000000",
            broker.maintenance_chance,
        )
    if adapter.store is None:
        _log.warning(
            "RabbitMQ without a store: crashes are not counted, a job may run twice at a time, and there are"
            " no dead jobs to send again, no job_id of your own and no parking: settings={'store': 'redis://...'}"
        )
        if isinstance(broker, RabbitmqBroker) and not broker.confirm_delivery:
            _log.warning("the broker loses delayed jobs with RabbitMQ: make it with confirm_delivery=True")


class _Body:
    """The body of every actor: brings a job to the core, and carries the decision out."""

    def __init__(self, workers: Workers[Any]) -> None:
        self._workers = workers
        self._adapter = DramatiqAdapter.of(workers)
        self._store = self._adapter.store
        self._client = None if self._adapter.redis is None else ThreadClient(self._adapter.redis)

    def run(self, *_args: object, **_kwargs: object) -> object:
        """Run the current message's job; arguments, in a message made by hand, are not looked at."""
        message: Any = CurrentMessage.get_current_message()
        text = message.options.get(wire.OPTION)
        try:
            payload = wire.payload(message)
        except InvalidPayloadError as error:  # not kept, or a resend would send that other job
            raise self._die(message, "", unreadable(error), None) from error
        claim = None if payload is None else self._begin(payload)
        delivery = Delivery(text, claim.crashes if claim else 0, message.actor_name, _OUTSIDE, payload)
        try:
            outcome = self._dispatch(payload, delivery)
        except BaseException as error:  # stopped from outside: without a decision, and counted
            _log.warning("job %s was stopped by %s: it runs again", message.message_id, told(error))
            if payload is None:
                raise
            fresh = wire.payload(message) or payload  # host code may have changed the args it was given
            self._send_back(fresh, time.time() + 1, claim)
            raise SkipMessage("it runs again") from None
        match outcome:
            case Complete(value):
                return self._complete(claim, outcome, message, value)
            case Again(following, due_at):
                following = wire.with_options(following, message.options)
                if claim is None:
                    self._send_back(following, due_at)
                else:
                    self._end(claim, replace(outcome, payload=following), message)
                # Not done, as far as pipelines, groups and callbacks go.
                raise SkipMessage("it runs again")
            case Dead():
                raise self._die(message, text, outcome, claim)

    def _begin(self, payload: Payload) -> Claim | None:
        """Claim the job, where a store keeps claims; `SkipMessage` for a message that is not to run now."""
        store = self._store
        if store is None:
            return None
        token = store.token()
        client = self._client
        begun = _until_done(lambda: store.begin(payload, token, client), f"job {payload.id} is not begun")
        if isinstance(begun, Stale):
            _log.warning("job %s went on without this copy of it, which is dropped", payload.id)
            raise SkipMessage("the job went on without it")
        if isinstance(begun, Busy):
            _log.warning("job %s is still running in another process: it waits", payload.id)
            self._send_back(payload, time.time() + min(begun.seconds, PAUSE))
            raise SkipMessage("it waits")
        return begun

    def _dispatch(self, payload: Payload | None, delivery: Delivery) -> Outcome:
        """In this thread, or on the loop of Dramatiq's middleware `AsyncIO` where the broker has it.

        Host code can end that loop, and Dramatiq makes no other.
        """
        handle = None if payload is None else self._workers.find(payload.worker)
        thread = get_event_loop_thread()
        if thread and handle and handle.implementation and handle.implementation.is_async:
            if thread.loop.is_running():
                outcome = thread.run_coroutine(held_back(adispatch(self._workers, delivery)))
                if isinstance(outcome, KeyboardInterrupt):
                    raise outcome
                return outcome
            _log.warning("the event loop of Dramatiq's middleware has ended: async jobs run on one of ours")
        return core_dispatch(self._workers, delivery)

    # -- carrying the decision out ---------------------------------------------------------------------

    def _complete(self, claim: Claim | None, outcome: Outcome, message: Any, value: object) -> object:
        """Keep the value, and write the end of the run; what the actor returns.

        In this order, and behind the messages that Dramatiq sends when a job is done (`Process.before_ack`):
        a process that is killed in between leaves a job that runs again, not one that nobody goes on with.
        """
        goes_on = any(message.options.get(name) for name in _GO_ON)
        results = self._adapter.results
        if goes_on or results is not None:
            # Not before Redis is there: what can't be stored or sent is dropped.
            self._write([("EVAL", "return 1", 0)], message.message_id)
        returned = self._result(message, value, results)
        if goes_on:
            message.run_end = partial(self._end, claim, outcome, message)
        else:
            self._end(claim, outcome, message)
        return returned

    def _end(self, claim: Claim | None, outcome: Outcome, message: Any) -> None:
        """Write the end of a run, and park the job where it runs again, in one transaction.

        On Redis it acknowledges the message, too: Dramatiq would ask Redis once more.
        """
        store = self._store
        if store is None or claim is None:
            return
        commands: list[Command] = []
        if isinstance(outcome, Again):
            commands = store.park(outcome.payload, outcome.due_at)
        done = [] if isinstance(outcome, Dead) else self._adapter.acknowledging(message)
        ending = store.end(claim, outcome, time.time(), [*commands, *done])
        is_written = self._write([("EVAL", *command) for command in ending], claim.job_id)
        if done and is_written:
            message.is_acknowledged = True
        store.ended(claim)

    def _send_back(self, payload: Payload, due_at: float, claim: Claim | None = None) -> None:
        """Send a job without an end of its run, a claim given back with it."""
        store = self._store
        if store is None:
            _until_done(lambda: self._adapter.publish(payload, due_at), f"job {payload.id} is not sent again")
            return
        release = [] if claim is None else [("EVAL", *store.released(claim))]
        self._write([*store.park(payload, due_at), *release], payload.id)
        if claim is not None:
            store.ended(claim)

    def _write(self, commands: Sequence[Command], job_id: str) -> bool:
        """Write a decision; whether a script did, which answers 0 where the job went on without this run."""

        def write() -> bool:
            if len(commands) == 1 and self._client is not None:
                return bool(self._client.eval(*commands[0][1:]))
            self._adapter.write(commands)
            return False

        return _until_done(write, f"what becomes of job {job_id} is not written")

    def _result(self, message: Any, value: object, results: Results | None) -> object:
        """Keep the value where the broker keeps results; what the actor returns, for a pipeline."""
        if results is not None:

            def store(kept: object) -> None:
                results.backend.store_result(message, kept, results.result_ttl)

            storable(value, store, message.message_id, _log)
        return value if message.options.get("pipe_target") else None

    def _die(self, message: Any, text: object, dead: Dead, claim: Claim | None) -> DeadJobError:
        if dead.payload is not None:
            dead = replace(dead, payload=wire.with_options(dead.payload, message.options))
        if claim is not None:
            self._end(claim, dead, message)
        elif self._store is not None:  # it could not be read
            bury = self._store.bury(
                message.message_id, text if isinstance(text, str) else "", dead, time.time()
            )
            self._write([("EVAL", *bury)], message.message_id)
        report(dead, message.message_id, _log)
        message.fail()  # whether or not the broker has the middleware `Retries`
        return dead.failure(message.message_id)


def _until_done(act: Callable[[], T], what: str) -> T:
    """Try until it works: a decision is never dropped.

    Dramatiq's own retry is, where the broker is away: it acknowledges the message when the broker is back
    (broker.py, `emit_after` swallows what `Retries` raises). A process that ends meanwhile leaves the message
    unacknowledged, and another runs the job again.
    """
    wait = 0.1
    while True:
        try:
            return act()
        except Exception as error:
            _log.warning("%s (%s): once more in %.1f s", what, type(error).__name__, wait)
        time.sleep(wait)
        wait = min(2 * wait, MAX_WAIT)
