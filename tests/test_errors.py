"""Errors: one tree, picklable, and messages that stand alone in a log without anyone's data."""

import copy
import inspect
import pickle
from typing import Any

import pytest
from tests.support import KEYS, Host

from sigra_workers import (
    AdapterNotFoundError,
    AuditError,
    AuditOnlyScopeError,
    DeadJobError,
    DuplicateJobError,
    DuplicateWorkerError,
    EnqueueError,
    InvalidArgsError,
    InvalidOptionError,
    InvalidPayloadError,
    InvalidResultError,
    InvalidScopeError,
    InvalidSettingsError,
    InvalidWorkerError,
    JobCancelledError,
    JobCrashedError,
    JobFailedError,
    JobTimeoutError,
    MissingArgError,
    MissingTenantKeyError,
    NotDeadError,
    NotFoundError,
    NotSupportedError,
    PayloadVersionError,
    SigraWorkersError,
    TenantArgs,
    UnknownQueueError,
    UnknownWorkerError,
    WorkerNotImplementedError,
    WorkersNotBoundError,
    WrongArgError,
    errors,
    fetch_arg,
    tenant_args,
)
from sigra_workers.args import ArgsForm
from sigra_workers.jobs import Payload

SECRET = "s3cr3t-value"

EXAMPLES: list[tuple[SigraWorkersError, type[Exception], str, str]] = [
    # the error, the built-in it also is, what its first line names, and what its text tells to do
    (SigraWorkersError("it", "broke"), Exception, "it broke", ""),
    (InvalidArgsError("a.b", ["one", "two"]), ValueError, "'a.b' are not valid: one", "two"),
    (MissingTenantKeyError("a.b", ["one"]), ValueError, "'a.b'", "one"),
    (MissingArgError("key", ["a", "b"]), KeyError, "no key 'key', only ['a', 'b']", "handle.enqueue(...)"),
    (WrongArgError("key", "str", "int"), TypeError, "'key' is of type str, expected int", ""),
    (InvalidOptionError("timeout", "expected 1"), ValueError, "'timeout': expected 1", ""),
    (UnknownQueueError("q", ["a"]), ValueError, "'q', known are ['a']", "Workers(queues=['q'])"),
    (InvalidWorkerError("Close", "it is a class"), TypeError, "Close can't be registered: it is a class", ""),
    (DuplicateWorkerError("a.b", "is declared already"), ValueError, "'a.b' is declared already", ""),
    (
        EnqueueError(["a"], ["b", "c"], []),
        Exception,
        "of 3 jobs the queue accepted 1, 2 were not sent, 0 are unknown",
        "enqueue the rejected",
    ),
    (
        DuplicateJobError(["a"], ["b", "c"], [], ["b"]),
        EnqueueError,
        "a job with id 'b' exists already; of the others 1 were accepted, 1 not sent",
        'on_duplicate="skip"',
    ),
    (
        NotDeadError(["a"], ["b", "c"], [], ["b"]),
        EnqueueError,
        "job 'b' is not dead (any more); of the others 1 were sent again, 1 not",
        "sigra-workers dead list",
    ),
    (
        NotSupportedError("arq", "dead_jobs"),
        NotImplementedError,
        "adapter 'arq' does not declare 'dead_jobs' with these settings",
        "README",
    ),
    (AdapterNotFoundError("arq", ["memory"]), LookupError, "'arq'", "pip install 'sigra-workers[arq]'"),
    (
        InvalidScopeError("Builder", "Request"),
        TypeError,
        "'Builder' returned an object of type Request",
        "AuditOnly",
    ),
    (InvalidSettingsError("adapter 'rq'", "no url"), ValueError, "adapter 'rq': no url", ""),
    (WorkersNotBoundError("RQ", "rq worker -c app"), RuntimeError, "RQ", "rq worker -c app"),
    (NotFoundError("app:x", "there is no x"), LookupError, "'app:x'", "there is no x"),
    (InvalidPayloadError("it is not JSON"), ValueError, "it is not JSON", "handle.enqueue(...)"),
    (PayloadVersionError(2, 1), InvalidPayloadError, "wire version 2", "upgrade sigra-workers"),
    (UnknownWorkerError("a.b", 3_600.4), LookupError, "'a.b'", "aliases=[...]"),
    (
        WorkerNotImplementedError("a.b"),
        LookupError,
        "worker 'a.b' is not implemented in this process",
        "replace={handle: Fake(...)}",
    ),
    (InvalidResultError("a.b", "None"), TypeError, "'a.b' returned None", "Snooze(seconds)"),
    (JobTimeoutError(1.5), TimeoutError, "timeout of 1.5 s", ""),
    (JobFailedError("no"), Exception, "no", ""),
    (JobCancelledError("hold"), JobFailedError, "hold", ""),
    (JobCrashedError(3), Exception, "died 3 times", ""),
    (DeadJobError("id1", "a.b", "org-1", "no"), Exception, "'id1' of worker 'a.b' (organization org-1)", ""),
    (AuditOnlyScopeError("AuditScope", "role"), AttributeError, "AuditScope has no 'role'", "by the ids"),
    (AuditOnlyScopeError("AuditScope", None), AttributeError, "AuditScope can't authorize", "by the ids"),
    (AuditError("a.b", ["action", "metadata"], "bad"), ValueError, "'a.b' was not written, action", "bad"),
]


def tree(base: type[SigraWorkersError]) -> set[type[SigraWorkersError]]:
    return {base}.union(*(tree(child) for child in base.__subclasses__()))


def test_every_error_of_the_module_is_in_the_one_tree() -> None:
    of_module = {
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if found.__module__ == errors.__name__
    }
    assert of_module == {kind for kind in tree(SigraWorkersError) if kind.__module__ == errors.__name__}


def test_every_error_has_an_example_here() -> None:
    kinds = {kind for kind in tree(SigraWorkersError) if kind.__module__ == errors.__name__}
    assert {type(error) for error, *_ in EXAMPLES} == kinds


every = pytest.mark.parametrize("error", [error for error, *_ in EXAMPLES])


@every
def test_every_error_pickles_whole(error: SigraWorkersError) -> None:
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is type(error)
        assert (back.args, vars(back), str(back)) == (error.args, vars(error), str(error))


@every
def test_every_error_keeps_its_facts_as_plain_attributes(error: SigraWorkersError) -> None:
    assert all(isinstance(fact, (str, int, float, tuple, type(None))) for fact in vars(error).values())


@every
def test_no_line_of_a_message_is_long(error: SigraWorkersError) -> None:
    assert all(len(line) < 130 for line in str(error).splitlines())


@pytest.mark.parametrize(("error", "also", "named", "told"), EXAMPLES)
def test_every_error_is_also_a_built_in_names_its_thing_first_and_tells_what_to_do(
    error: SigraWorkersError, also: type[Exception], named: str, told: str
) -> None:
    assert isinstance(error, also)
    assert named in str(error).splitlines()[0]
    assert told in str(error)


@every
def test_every_error_is_documented_in_a_sentence(error: SigraWorkersError) -> None:
    assert (type(error).__doc__ or "").rstrip().endswith(".")


def test_a_missing_arg_reads_as_text_where_a_key_error_would_show_a_repr() -> None:
    error = MissingArgError("account_id", ["actor_id"])
    assert str(error).startswith("job args have no key 'account_id', only ['actor_id']\n")
    assert str(KeyError("account_id")) == "'account_id'"


def test_facts_given_as_lists_are_kept_as_tuples() -> None:
    found = ["actor_id"]
    error = MissingArgError("account_id", found)
    found.append("late")
    assert error.found == ("actor_id",)
    assert error.args == ("account_id", ("actor_id",))


def test_an_unknown_queue_is_an_invalid_option_named_queue() -> None:
    error = UnknownQueueError("q", ["a"])
    assert (error.option, error.queue, error.known) == ("queue", "q", ("a",))


def bad_args() -> list[Any]:
    """Args with a secret in every place that a message might quote."""
    return [
        {"actor_id": SECRET, "token": SECRET},
        {**KEYS, "token": {SECRET}},
        {**KEYS, "token": SECRET.encode()},
        {**KEYS, "token": [SECRET, (SECRET,)]},
        {**KEYS, "actor_id": [SECRET]},
        {**KEYS, (SECRET,): SECRET},
        {**KEYS, "token": SECRET * 100_000},
        [SECRET],
        SECRET,
    ]


@pytest.mark.parametrize("args", bad_args())
def test_no_refusal_of_args_holds_a_value(args: Any) -> None:
    host = Host().worker(lambda scope, args: None)
    with pytest.raises(InvalidArgsError) as caught:
        host.handle.new(args)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_no_error_about_a_missing_or_wrong_arg_holds_a_value() -> None:
    for key, form in (("absent", object), ("token", int)):
        with pytest.raises((MissingArgError, WrongArgError)) as caught:
            fetch_arg({**KEYS, "token": SECRET}, key, form)
        assert SECRET not in f"{caught.value!r}{caught.value}"
    no_id: Any = [SECRET]
    with pytest.raises(InvalidArgsError) as bad:
        tenant_args(organization_id="org-1", actor_id=no_id)
    assert SECRET not in str(bad.value)
    with pytest.raises(InvalidArgsError) as late:
        ArgsForm.of(TenantArgs).check_present("a.b", {**KEYS, "actor_id": [SECRET]})
    assert SECRET not in str(late.value)


@pytest.mark.parametrize(
    "text", [SECRET, f'{{"v": 1, "args": "{SECRET}"}}', f'["{SECRET}"]', SECRET.encode()]
)
def test_no_error_about_a_payload_holds_what_is_in_it(text: object) -> None:
    with pytest.raises(InvalidPayloadError) as caught:
        Payload.parse(text)
    assert SECRET not in f"{caught.value!r}{caught.value}"


def test_a_job_that_died_without_an_exception_is_told_in_logs_too() -> None:
    assert errors.told(None) == "no exception"
