"""Every exception of the library, one tree under `SigraWorkersError`.

Constructors are positional and keep their facts as attributes, so each error survives pickling. The
first line of a message stands alone in a log; no message ever holds a job's args.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import logging


class SigraWorkersError(Exception):
    """Base of every error that sigra-workers raises."""

    def __str__(self) -> str:
        # KeyError would print the repr of a single argument; every message here is a plain text.
        return self.message

    @property
    def message(self) -> str:
        """The text of the error; subclasses build it from their facts."""
        return " ".join(str(arg) for arg in self.args)


# -- args --------------------------------------------------------------------------------------------


class InvalidArgsError(SigraWorkersError, ValueError):
    """Args that can't become a job. `worker` is the worker's name, `problems` names every fault found."""

    def __init__(self, worker: str, problems: Sequence[str]) -> None:
        super().__init__(worker, tuple(problems))
        self.worker = worker
        self.problems = tuple(problems)

    @property
    def message(self) -> str:
        """One line a problem, the first on the first line."""
        return f"args of {self.worker!r} are not valid: " + "\n  also: ".join(self.problems)


class MissingTenantKeyError(InvalidArgsError):
    """`organization_id` or `actor_id` is absent. None is a value: pass it where there is nobody."""


class MissingArgError(SigraWorkersError, KeyError):
    """A key that a worker needs is absent at run time, as in a job made by hand."""

    def __init__(self, key: str, found: Sequence[str]) -> None:
        super().__init__(key, tuple(found))
        self.key = key
        self.found = tuple(found)

    @property
    def message(self) -> str:
        """The absent key and the keys that are there; never a value."""
        return (
            f"job args have no key {self.key!r}, only {list(self.found)}\n"
            "make jobs with handle.new(...) or handle.enqueue(...), which check this before sending"
        )


class WrongArgError(SigraWorkersError, TypeError):
    """A job arg has another type than the one asked for."""

    def __init__(self, key: str, found: str, expected: str) -> None:
        super().__init__(key, found, expected)
        self.key, self.found, self.expected = key, found, expected

    @property
    def message(self) -> str:
        """The key, the type found and the type expected; never the value."""
        return f"job arg {self.key!r} is of type {self.found}, expected {self.expected}"


# -- making and registering ------------------------------------------------------------------------


class InvalidOptionError(SigraWorkersError, ValueError):
    """An option that is unknown, or has a value it can't have."""

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option, self.problem = option, problem

    @property
    def message(self) -> str:
        """The option and what is wrong with it."""
        return f"option {self.option!r}: {self.problem}"


def refuse_unknown(given: Iterable[str], form: Any, what: str = "option") -> None:
    """Refuse names that a TypedDict does not list."""
    for name in given:
        if name not in form.__annotations__:
            raise InvalidOptionError(
                name, f"there is no such {what}, known are {sorted(form.__annotations__)}"
            )


class UnknownQueueError(InvalidOptionError):
    """A queue that no handle declares: nobody would read it."""

    def __init__(self, queue: str, known: Sequence[str]) -> None:
        SigraWorkersError.__init__(self, queue, tuple(known))
        self.option, self.queue, self.known = "queue", queue, tuple(known)
        self.problem = (
            f"no worker is declared for queue {queue!r}, known are {list(self.known)}\n"
            f"declare a worker on it, or name it: Workers(queues=[{queue!r}])"
        )


class InvalidWorkerError(SigraWorkersError, TypeError):
    """A worker, scope builder or around that can't serve; refused when it is registered."""

    def __init__(self, worker: str, problem: str) -> None:
        super().__init__(worker, problem)
        self.worker, self.problem = worker, problem

    @property
    def message(self) -> str:
        """The object and what is wrong with it."""
        return f"{self.worker} can't be registered: {self.problem}"


class DuplicateWorkerError(SigraWorkersError, ValueError):
    """Two workers with one name or alias, or two implementations of one handle."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    @property
    def message(self) -> str:
        """The name and who has it already."""
        return f"worker {self.name!r} {self.problem}"


# -- sending ---------------------------------------------------------------------------------------


class EnqueueError(SigraWorkersError):
    """Jobs that may not have reached the queue; the cause is chained.

    `accepted`, `rejected` and `unknown` are tuples of job ids. Rejected jobs were not sent. Unknown
    jobs were sent and the answer was lost: they may run.
    """

    def __init__(self, accepted: Sequence[str], rejected: Sequence[str], unknown: Sequence[str]) -> None:
        super().__init__(tuple(accepted), tuple(rejected), tuple(unknown))
        self.accepted, self.rejected, self.unknown = tuple(accepted), tuple(rejected), tuple(unknown)

    @property
    def message(self) -> str:
        """How many jobs were accepted, rejected and are unknown, and what to do."""
        cause = "" if self.__cause__ is None else f" ({type(self.__cause__).__name__})"
        accepted, rejected, unknown = len(self.accepted), len(self.rejected), len(self.unknown)
        return (
            f"of {accepted + rejected + unknown} jobs the queue accepted {accepted},"
            f" {rejected} were not sent, {unknown} are unknown{cause}\n"
            "enqueue the rejected jobs again; unknown ones were sent, but the answer was lost: they may run"
        )


class DuplicateJobError(EnqueueError):
    """The `job_id` given is already queued, scheduled, running or dead.

    `duplicates` are those that exist; `rejected` holds them and the jobs behind them, which were not sent.
    """

    def __init__(
        self,
        accepted: Sequence[str],
        rejected: Sequence[str],
        unknown: Sequence[str],
        duplicates: Sequence[str],
    ) -> None:
        super().__init__(accepted, rejected, unknown)
        self.args = (*self.args, tuple(duplicates))
        self.duplicates = tuple(duplicates)

    @property
    def message(self) -> str:
        """The ids that exist already, and what to do."""
        return (
            f"a job with id {', '.join(map(repr, self.duplicates))} exists already; of the others"
            f" {len(self.accepted)} were accepted, {len(self.rejected) - len(self.duplicates)} not sent\n"
            'leave it be, give another job_id, or pass on_duplicate="skip" to enqueue_many'
        )


class NotDeadError(EnqueueError):
    """Jobs that were to be sent again and are not among the dead ones; the others were sent again.

    `missing` are their ids, also among the `rejected`: somebody else sent or purged them, or they never died.
    """

    def __init__(
        self, accepted: Sequence[str], rejected: Sequence[str], unknown: Sequence[str], missing: Sequence[str]
    ) -> None:
        super().__init__(accepted, rejected, unknown)
        self.args = (*self.args, tuple(missing))
        self.missing = tuple(missing)

    @property
    def message(self) -> str:
        """The ids that are not dead, and what to do."""
        ids = ", ".join(map(repr, self.missing))
        what = f"job {ids} is" if len(self.missing) == 1 else f"jobs {ids} are"
        accepted, rest = len(self.accepted), len(self.rejected) - len(self.missing) + len(self.unknown)
        others = f"; of the others {accepted} were sent again, {rest} not surely" if accepted or rest else ""
        return (
            f"{what} not dead (any more){others}\n"
            "look what is there: sigra-workers dead list, or workers.dead(ids=...)"
        )


class NotSupportedError(SigraWorkersError, NotImplementedError):
    """What the adapter can't do with these settings. `capability` is one of `CAPABILITIES`."""

    def __init__(self, adapter: str, capability: str) -> None:
        super().__init__(adapter, capability)
        self.adapter, self.capability = adapter, capability

    @property
    def message(self) -> str:
        """The adapter and the capability it does not declare."""
        return (
            f"adapter {self.adapter!r} does not declare {self.capability!r} with these settings\n"
            "its README says which settings it takes, such as a store"
        )


class AdapterNotFoundError(SigraWorkersError, LookupError):
    """No installed distribution supplies the adapter. `found` are the plugins that are installed."""

    def __init__(self, adapter: str, found: Sequence[str]) -> None:
        super().__init__(adapter, tuple(found))
        self.adapter, self.found = adapter, tuple(found)

    @property
    def message(self) -> str:
        """The adapter asked for, the plugins that are there, and the install command unless it is one."""
        missing = f"there is no adapter {self.adapter!r} among the plugins installed: {list(self.found)}"
        install = f"\ninstall it: pip install 'sigra-workers[{self.adapter}]'"
        return missing if self.adapter in self.found else missing + install


class InvalidSettingsError(SigraWorkersError, ValueError):
    """Settings of an adapter, or of `Workers`, that can't work."""

    def __init__(self, subject: str, problem: str) -> None:
        super().__init__(subject, problem)
        self.subject, self.problem = subject, problem

    @property
    def message(self) -> str:
        """Whose settings, and what is wrong with them."""
        return f"{self.subject}: {self.problem}"


class WorkersNotBoundError(SigraWorkersError, RuntimeError):
    """A worker process has no `Workers` object to find its workers in."""

    def __init__(self, adapter: str, command: str) -> None:
        super().__init__(adapter, command)
        self.adapter, self.command = adapter, command

    @property
    def message(self) -> str:
        """What is missing, and the command that starts the process rightly."""
        return (
            f"this {self.adapter} worker process is bound to no Workers object\n"
            f"start it with its boot file: {self.command}, or set SIGRA_WORKERS=app.implementations:workers"
        )


class NotFoundError(SigraWorkersError, LookupError):
    """A `module:attribute` that does not lead to a `Workers` object."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    @property
    def message(self) -> str:
        """The path and where it ended."""
        return f"{self.path!r} leads to no Workers object: {self.problem}"


# -- running ---------------------------------------------------------------------------------------


class InvalidPayloadError(SigraWorkersError, ValueError):
    """A payload that is not a job of wire version 1; never run."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    @property
    def message(self) -> str:
        """What is wrong with the payload."""
        return (
            f"the job's payload is broken: {self.problem}\n"
            "jobs are made with handle.enqueue(...); a payload made by hand follows the wire form, version 1"
        )


class PayloadVersionError(InvalidPayloadError):
    """A payload of a newer wire version than this process knows."""

    def __init__(self, found: object, expected: int) -> None:
        SigraWorkersError.__init__(self, found, expected)
        self.found, self.expected = found, expected
        self.problem = f"it is of wire version {found!r}, this process knows up to {expected}"

    @property
    def message(self) -> str:
        """Both versions, and what to do."""
        return f"{self.problem}\nupgrade sigra-workers in the worker processes before the senders"


class UnknownWorkerError(SigraWorkersError, LookupError):
    """No worker of that name is implemented in this worker process, grace time included."""

    def __init__(self, worker: str, waited: float) -> None:
        super().__init__(worker, waited)
        self.worker, self.waited = worker, waited

    @property
    def message(self) -> str:
        """The name, how long the job waited in seconds, and what to do."""
        return (
            f"worker {self.worker!r} is not implemented in this worker process, waited {self.waited:.0f} s\n"
            "import its module in the boot file, or keep its old name: aliases=[...]"
        )


class WorkerNotImplementedError(SigraWorkersError, LookupError):
    """A test is to perform a job of a worker that is only declared in its process."""

    def __init__(self, worker: str) -> None:
        super().__init__(worker)
        self.worker = worker

    @property
    def message(self) -> str:
        """The worker, and what to do."""
        return (
            f"worker {self.worker!r} is not implemented in this process\n"
            "import what implements it, such as app.implementations, or give a fake:"
            " testing(workers, replace={handle: Fake(...)})"
        )


class InvalidResultError(SigraWorkersError, TypeError):
    """`perform` returned something else than Ok, Error, Snooze or Cancel."""

    def __init__(self, worker: str, found: str) -> None:
        super().__init__(worker, found)
        self.worker, self.found = worker, found

    @property
    def message(self) -> str:
        """The worker, the type found, and the results there are."""
        return (
            f"perform of worker {self.worker!r} returned {self.found},"
            " expected Ok(...), Error(reason), Snooze(seconds) or Cancel(reason)\n"
            "the work was done, so it is not run again: end perform with one of these results"
        )


class InvalidScopeError(SigraWorkersError, TypeError):
    """A scope builder made something that is no audit-only scope; neither arounds nor `perform` see it."""

    def __init__(self, builder: str, found: str) -> None:
        super().__init__(builder, found)
        self.builder, self.found = builder, found

    @property
    def message(self) -> str:
        """The builder, the type found, and what is expected."""
        return (
            f"scope builder {self.builder!r} returned an object of type {self.found},"
            " expected an AuditOnly scope, Cancel, Snooze or None\n"
            "derive the scope of workers from AuditOnly: a request scope must not reach them"
        )


class JobTimeoutError(SigraWorkersError, TimeoutError):
    """The job ran longer than its `timeout`, in seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    @property
    def message(self) -> str:
        """The limit that was passed."""
        return f"the job ran longer than its timeout of {self.seconds:g} s"


class JobFailedError(SigraWorkersError):
    """`perform` returned `Error(reason)`; the form in which hooks see it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class JobCancelledError(JobFailedError):
    """A job that was cancelled: `Cancel(reason)` or an exception of `cancel_on`."""


class JobCrashedError(SigraWorkersError):
    """The worker process died under the job on every attempt it had."""

    def __init__(self, crashes: int) -> None:
        super().__init__(crashes)
        self.crashes = crashes

    @property
    def message(self) -> str:
        """How often the process died."""
        return (
            f"crashed: the worker process died {self.crashes} times under this job, on its last attempt too"
        )


class DeadJobError(SigraWorkersError):
    """Raised by adapters to make a queue file a job as failed; the cause is chained."""

    def __init__(self, job_id: str, worker: str, organization: str, reason: str) -> None:
        super().__init__(job_id, worker, organization, reason)
        self.job_id, self.worker, self.organization, self.reason = job_id, worker, organization, reason

    @property
    def message(self) -> str:
        """Job, worker, organization and reason."""
        return (
            f"job {self.job_id!r} of worker {self.worker!r} (organization {self.organization})"
            f" is dead: {self.reason}"
        )


# -- scopes and audit ------------------------------------------------------------------------------


class AuditOnlyScopeError(SigraWorkersError, AttributeError):
    """Something of a worker's scope was asked for that it doesn't have: it is good for audit alone."""

    def __init__(self, scope: str, attribute: str | None) -> None:
        super().__init__(scope, attribute)
        self.scope, self.attribute = scope, attribute

    @property
    def message(self) -> str:
        """The scope, what was asked of it, and where to look instead."""
        asked = "can't authorize anything" if self.attribute is None else f"has no {self.attribute!r}"
        return (
            f"{self.scope} {asked}: a worker's scope is audit-only, without request, session or membership\n"
            "load what perform needs by the ids in its args"
        )


class AuditError(SigraWorkersError, ValueError):
    """An audit event that can't be written. `fields` names the fields at fault, never their values."""

    def __init__(self, action: str, fields: Sequence[str], problem: str) -> None:
        super().__init__(action, tuple(fields), problem)
        self.action, self.fields, self.problem = action, tuple(fields), problem

    @property
    def message(self) -> str:
        """The action, the fields, and what is wrong with them."""
        return f"audit event {self.action!r} was not written, {', '.join(self.fields)}: {self.problem}"


# -- in logs ---------------------------------------------------------------------------------------------

_PACKAGE: Final = __file__.removesuffix("errors.py")


def log(name: str = "sigra_workers") -> "logging.Logger":
    """The logger of that name; logging is slow to import, and not all that send jobs ever log."""
    import logging

    return logging.getLogger(name)


def is_own(error: BaseException) -> bool:
    """Whether code that is called raised it by itself: not what stops a job, as its time-out does.

    A `CancelledError` too, where nothing is awaited: it tells of something else that was cancelled.
    """
    if isinstance(error, (Exception, SystemExit, GeneratorExit)):
        return True
    asyncio = sys.modules.get("asyncio")  # only imported where a loop runs
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def told(error: BaseException | None) -> str:
    """An exception in a log: its kind and the host's line that raised it, never its text: it may hold args.

    The messages of this library hold none, but for those that repeat what a caller gave: they are told.
    """
    if error is None:
        return "no exception"
    import traceback

    ours = type(error).__module__ == __name__ and not isinstance(error, (JobFailedError, InvalidOptionError))
    text = "".join(f": {line}" for line in str(error).splitlines()[:1]) if ours else ""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_PACKAGE)]
    where = "".join(f" at {frame.filename}:{frame.lineno}" for frame in theirs[-1:])
    return type(error).__name__ + where + text
