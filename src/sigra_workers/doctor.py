"""What would lose, leak or stall an application's jobs: the checks of the core, its adapter and its sink."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, entry_points
from typing import Any, Final, cast

from sigra_workers.checks import Check, Checks, Finding
from sigra_workers.errors import InvalidOptionError, SigraWorkersError, told
from sigra_workers.hooks import PROJECT
from sigra_workers.sinks import LoggingSink, MemorySink, why_dropped
from sigra_workers.workers import Workers

PAGE: Final = "docs/how-to/doctor.md"
_AUDIT: Final = "docs/how-to/audit.md"
_NUMBER: Final = re.compile(r"\d+(\.\d+)*")
_BOUND: Final = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?")


@dataclass(frozen=True, slots=True)
class Examined:
    """One finding of one check."""

    check: str
    finding: Finding


def examine(workers: Workers[Any], only: Sequence[str] = ()) -> Iterator[Examined]:
    """Run the checks, or those that `only` names, by a dotted name or its beginning; what each found.

    Raises `InvalidOptionError` for a name that is no check's.
    """
    checks = [*_own(workers), *_adapters(workers), *_of(workers.audit.sink, workers, "audit.checks")]
    for name in only:
        if not any(_is_below(check.name, name) for check in checks):
            known = ", ".join(sorted({check.name for check in checks}))
            raise InvalidOptionError("only", f"there is no check {name!r}, there are {known}")
    run = _Run(checks)
    for check in checks:
        if not only or any(_is_below(check.name, name) for name in only):
            yield from (Examined(check.name, finding) for finding in run.findings(check))


class _Run:
    """What the checks found so far; each is run once, and after the one that it needs."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = checks
        self._found: dict[Check, list[Finding]] = {}

    def findings(self, check: Check) -> list[Finding]:
        if check not in self._found:
            self._found[check] = [*self._run(check)]
        return self._found[check]

    def _run(self, check: Check) -> Iterable[Finding]:
        needed = [other for other in self._checks if other.name == check.needs]
        if any(finding.status == "problem" for other in needed for finding in self.findings(other)):
            what = f"{check.needs} has a problem: this was not looked at"
            return [Finding("unknown", what, f"mend {check.needs} first, and run this again", PAGE)]
        try:
            return [*check.run()]
        except Exception as error:  # the server's, or host code's
            return [_failed(error)]


def _failed(error: Exception) -> Finding:
    """A check raised; the library's own errors say in their further lines what to do."""
    what, mend = told(error), "look at that line: a check of a library, or of yours, fails there"
    if isinstance(error, SigraWorkersError):
        what, *rest = str(error).splitlines()
        mend = "; ".join(rest) or "mend what it names, in the settings of Workers(...)"
    return Finding("problem", f"it could not be checked: {what}", mend, PAGE)


def _is_below(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _brings_checks(subject: object) -> bool:
    return callable(getattr(subject, "checks", None))


def _of(subject: object, workers: Workers[Any], name: str) -> Iterable[Check]:
    """The checks that an adapter or a sink brings; where it fails to, one of that `name` that says so."""
    if not _brings_checks(subject):
        return ()
    try:
        return [*cast("Checks", subject).checks(workers)]
    except Exception as error:
        failure = error
        return [Check(name, lambda: [_failed(failure)])]


def _adapters(workers: Workers[Any]) -> Iterable[Check]:
    try:
        adapter = workers.adapter
    except Exception:  # also what its library raises on import: adapter.installed says so
        return ()
    return _of(adapter, workers, "adapter.checks")


# -- the core's own ------------------------------------------------------------------------------------


def _own(workers: Workers[Any]) -> list[Check]:
    return [
        Check("adapter.installed", lambda: _installed(workers)),
        Check("adapter.claims", lambda: _claims(workers.adapter_name)),
        Check("adapter.versions", lambda: _versions(workers.adapter_name)),
        Check("workers.implemented", lambda: _implemented(workers)),
        Check("audit.sink", lambda: _sink(workers.audit.sink)),
    ]


def _installed(workers: Workers[Any]) -> Iterable[Finding]:
    adapter = workers.adapter
    what = f"adapter {workers.adapter_name!r} is {_kind(adapter)}"
    if "durable" in adapter.capabilities:
        yield Finding("ok", what)
    else:
        lost = f"{what}, which keeps jobs in this process: they end with it"
        yield Finding("warning", lost, 'for production Workers(adapter="rq"), "dramatiq" or "arq"', PAGE)


def _kind(found: object) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}"


def _claims(name: str) -> Iterable[Finding]:
    found = entry_points(group=PROJECT, name=name)
    names = sorted({point.dist.name for point in found if point.dist is not None})
    if len(names) > 1:
        what = f"adapter {name!r} is claimed by {' and '.join(names)}: chance decides which one jobs go to"
        yield Finding("problem", what, f"pip uninstall {names[-1]}, or the other that is not meant", PAGE)
    else:
        yield Finding("ok", f"adapter {name!r} is that of {names[0] if names else 'a plugin'} alone")


def _versions(name: str) -> Iterable[Finding]:
    for point in entry_points(group=PROJECT, name=name):
        if point.dist is None:
            continue
        for requirement in point.dist.requires or ():
            if ";" not in requirement:
                yield _version(point.dist, requirement)


def _version(owner: Distribution, requirement: str) -> Finding:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    needed = match[0] if match else requirement
    try:
        version = distribution(needed).version
    except PackageNotFoundError:
        what = f"{owner.name} needs {requirement}, which is not installed: no job can be sent or run"
        return Finding("problem", what, f"pip install '{requirement}'", PAGE)
    if _allows(requirement.removeprefix(needed), version):
        return Finding("ok", f"{needed} {version}, as {owner.name} needs it ({requirement})")
    what = f"{needed} {version} is not what {owner.name} {owner.version} was tested with ({requirement})"
    lost = "jobs may be lost in ways that nobody measured"
    return Finding("problem", f"{what}: {lost}", f"pip install '{requirement}'", PAGE)


def _allows(specifiers: str, version: str) -> bool:
    """Whether a version is in a range, by its numbers."""
    numbers = _numbers(version)
    for operator, bound, wild in _BOUND.findall(specifiers):
        limit = _numbers(bound)
        width = max(len(numbers), len(limit))
        here, there = ((*found, *[0] * (width - len(found))) for found in (numbers, limit))
        same = numbers[: len(limit)] == limit if wild else here == there
        fits = {
            ">=": here >= there,
            "<=": here <= there,
            ">": here > there,
            "<": here < there,
            "==": same,
            "!=": not same,
            "~=": here >= there and numbers[: len(limit) - 1] == limit[:-1],
        }
        if not fits[operator]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    found = _NUMBER.match(version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _implemented(workers: Workers[Any]) -> Iterable[Finding]:
    missing = [handle.name for handle in workers.handles if handle.implementation is None]
    if missing:
        what = f"not implemented in this process: {', '.join(missing)}; in a worker process they would wait"
        mend = "sigra-workers doctor app.implementations:workers, with what worker processes import"
        yield Finding("warning", what, mend, PAGE)
    else:
        yield Finding("ok", f"each of the {len(workers.handles)} workers is implemented in this process")


def _sink(sink: object) -> Iterable[Finding]:
    if isinstance(sink, MemorySink):
        what = "audit events are kept in this process: they end with it"
        yield Finding("warning", what, "AuditTrail of sigra-workers-sqlalchemy keeps them", _AUDIT)
    elif not isinstance(sink, LoggingSink) and _brings_checks(sink):
        yield Finding("ok", f"audit events go to {_kind(sink)}")
    elif not isinstance(sink, LoggingSink):
        what = f"audit events go to {_kind(sink)}, which brings no checks: nobody tells if they are kept"
        mend = "give it a method checks, as an adapter has, that looks whether an event can be kept"
        yield Finding("unknown", what, mend, f"{PAGE}#checks-of-your-own")
    elif not (why := why_dropped(sink.logger)):
        what = (
            f"audit events go to the log {sink.logger.name!r} alone: a job that runs again writes them again"
        )
        mend = "AuditTrail of sigra-workers-sqlalchemy keeps each once, in a database"
        yield Finding("warning", what, mend, _AUDIT)
    else:
        what = f"audit events go to the log {sink.logger.name!r}, which drops them: {why}"
        mend = "logging.basicConfig(level=logging.INFO)"
        if sink.logger.hasHandlers():
            yield Finding("problem", what, mend, _AUDIT)
        else:  # boot files of worker processes do it, and nobody did here
            yield Finding("warning", f"{what} in this process", f"{mend}, in each process", _AUDIT)
