"""Args of jobs: the tenant keys, how to make them, how to read them, and the check at `new`.

No ``from __future__ import annotations`` here: it would turn ``NotRequired`` keys of `TenantArgs` into
required ones at run time.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from itertools import islice
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    NotRequired,
    Required,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    overload,
)

from typing_extensions import (
    Format,
    ReadOnly,
    TypeAliasType,
    TypedDict,
    TypeForm,
    get_annotations,
    get_type_hints,
    is_typeddict,
)

from sigra_workers.errors import InvalidArgsError, MissingArgError, MissingTenantKeyError, WrongArgError
from sigra_workers.records import record

if TYPE_CHECKING:
    from uuid import UUID

    HostId: TypeAlias = str | int | UUID
else:  # uuid is slow to import, and get_type_hints() leaves such an alias as it is
    HostId = TypeAliasType("HostId", "str | int | UUID")

Id: TypeAlias = str | int
"""An id on the wire. A bool is not an id; a UUID becomes its text."""

TENANT_KEYS: Final = ("organization_id", "actor_id")
_ID_KEYS: Final = (*TENANT_KEYS, "impersonating_from")
MAX_ARGS_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 64
to_json: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""A value as compact JSON text, ASCII only."""


class TenantArgs(TypedDict):
    """Base of every job's args: subclass it and add your own keys. None is a value, absent is an error."""

    organization_id: ReadOnly[Id | None]
    actor_id: ReadOnly[Id | None]
    impersonating_from: NotRequired[ReadOnly[Id | None]]


class OrganizationArgs(TenantArgs):
    """Args of a job that can't be without an organization."""

    organization_id: ReadOnly[Id]


class TenantKeys(TypedDict, closed=True):
    """What `tenant_args` returns: closed, so that ``MyArgs(**tenant_args(scope), key=1)`` type-checks."""

    organization_id: ReadOnly[Id | None]
    actor_id: ReadOnly[Id | None]
    impersonating_from: NotRequired[ReadOnly[Id | None]]


class OrganizationKeys(TypedDict, closed=True):
    """What `organization_args` returns: `TenantKeys` with an organization."""

    organization_id: ReadOnly[Id]
    actor_id: ReadOnly[Id | None]
    impersonating_from: NotRequired[ReadOnly[Id | None]]


_UNSET: Final[Any] = object()
T = TypeVar("T")


@overload
def tenant_args(scope: object, /) -> TenantKeys: ...
@overload
def tenant_args(
    *, organization_id: HostId | None, actor_id: HostId | None, impersonating_from: HostId | None = None
) -> TenantKeys: ...
def tenant_args(
    scope: object = _UNSET,
    /,
    *,
    organization_id: HostId | None = _UNSET,
    actor_id: HostId | None = _UNSET,
    impersonating_from: HostId | None = None,
) -> TenantKeys:
    """Tenant keys of a job, from a request scope or from ids.

    A scope has `user` and `active_organization`, maybe `impersonating_from`, each None or with an `id`.
    Explicit by design: nothing is captured from context. Raises `MissingTenantKeyError` where a scope
    lacks one of the first two, or an id is left out, and `InvalidArgsError` for what is not an id.
    """
    if scope is not _UNSET:
        if (organization_id, actor_id, impersonating_from) != (_UNSET, _UNSET, None):
            raise TypeError("tenant_args takes a scope or ids, not both")
        if scope is None:
            raise MissingTenantKeyError("tenant_args", ["the scope is None, expected a request scope"])
        absent = [part for part in ("user", "active_organization") if not hasattr(scope, part)]
        if absent:
            found = type(scope).__qualname__
            raise MissingTenantKeyError(
                "tenant_args", [f"{found} has no attribute {part!r}" for part in absent]
            )
        organization_id = _id_of(scope, "active_organization")
        actor_id = _id_of(scope, "user")
        impersonating_from = _id_of(scope, "impersonating_from")
    given = {"organization_id": organization_id, "actor_id": actor_id}
    missing = [
        f"{key!r} is missing, expected an id or None" for key, value in given.items() if value is _UNSET
    ]
    if missing:
        raise MissingTenantKeyError("tenant_args", missing)
    keys: dict[str, object] = {key: wire_id(value) for key, value in given.items()}
    if impersonating_from is not None:
        keys["impersonating_from"] = wire_id(impersonating_from)
    problems = [problem for key, value in keys.items() if (problem := _id_problem(key, value))]
    if problems:
        raise InvalidArgsError("tenant_args", problems)
    return cast("TenantKeys", keys)


@overload
def organization_args(scope: object, /) -> OrganizationKeys: ...
@overload
def organization_args(
    *, organization_id: HostId, actor_id: HostId | None, impersonating_from: HostId | None = None
) -> OrganizationKeys: ...
def organization_args(scope: Any = _UNSET, /, **ids: Any) -> OrganizationKeys:
    """`tenant_args` for `OrganizationArgs`: raises `InvalidArgsError` where there is no organization."""
    keys: TenantKeys = cast("Any", tenant_args)(scope, **ids)
    if keys["organization_id"] is None:
        raise InvalidArgsError("organization_args", [_NO_ORGANIZATION])
    return cast("OrganizationKeys", keys)


_NO_ORGANIZATION: Final = "'organization_id' is None, expected the id of an organization"


def wire_id(value: HostId | None, /) -> Id | None:
    """An id as it travels: a UUID becomes its text."""
    if value is None or isinstance(value, (str, int)):
        return value
    from uuid import UUID

    other: Any = value
    return str(other) if isinstance(other, UUID) else other


def _id_of(scope: object, part: str) -> Any:
    whole = getattr(scope, part, None)
    if whole is None:
        return None
    if not hasattr(whole, "id"):
        raise InvalidArgsError("tenant_args", [f"{part!r} of the scope has no attribute 'id'"])
    return whole.id


@overload
def fetch_arg(args: Mapping[str, object], key: str, /) -> object: ...
@overload
def fetch_arg(args: Mapping[str, object], key: str, form: TypeForm[T], /) -> T: ...
def fetch_arg(args: Mapping[str, object], key: str, form: Any = object, /) -> Any:
    """The value of a key that must be there; with `form`, a class or a union of classes, of that type.

    Raises `MissingArgError` (a `KeyError`) where the key is absent, `WrongArgError` where the value has
    another type, `TypeError` where `form` is something that can't be checked.
    """
    if key not in args:
        raise MissingArgError(key, sorted(map(str, args)))
    value = args[key]
    classes = get_args(form) if isinstance(form, UnionType) or get_origin(form) is Union else (form,)
    classes = tuple(NoneType if c is None else c for c in classes)
    if not all(isinstance(c, type) for c in classes):
        raise TypeError(f"fetch_arg checks classes and unions of classes, not {form!r}")
    if not isinstance(value, classes) or (isinstance(value, bool) and not {bool, object} & {*classes}):
        expected = " | ".join("None" if c is NoneType else c.__name__ for c in classes)
        raise WrongArgError(key, type(value).__name__, expected)
    return value


# -- the check at new and at run time ------------------------------------------------------------------


@record(frozen=True, slots=True)
class ArgsForm:
    """What a worker's TypedDict demands at run time: its required keys, and those that may not be None."""

    required: tuple[str, ...]
    not_none: frozenset[str]
    keys: frozenset[str] = field(repr=False)
    """The required ones, as a set."""

    @classmethod
    def of(cls, args_type: Any) -> "ArgsForm":
        """Read a TypedDict; raises `TypeError` for another class or one without the tenant keys."""
        args_type = get_origin(args_type) or args_type  # a generic one, of some type
        if not is_typeddict(args_type):
            raise TypeError(f"{args_type!r} is not a TypedDict")
        # A module with `from __future__ import annotations` hides NotRequired[...] in strings, so its
        # __required_keys__ lie: trust the resolved hints, or else the text.
        found = get_annotations(args_type, format=Format.FORWARDREF)
        with suppress(Exception):  # a name in them may exist for checkers alone
            found = get_type_hints(args_type, include_extras=True)
        required = {key for key in args_type.__required_keys__ if not _says(found[key], NotRequired)}
        required |= {key for key in args_type.__optional_keys__ if _says(found[key], Required)}
        absent = [key for key in TENANT_KEYS if key not in required]
        if absent:
            raise TypeError(
                f"{args_type.__qualname__} has no required key {absent[0]!r}: derive it from TenantArgs"
            )
        not_none = frozenset(key for key in TENANT_KEYS if not _admits_none(found[key]))
        return cls((*TENANT_KEYS, *sorted(required - {*TENANT_KEYS})), not_none, frozenset(required))

    def accepts(self, args: Mapping[str, object]) -> bool:
        """Whether the required keys are there, and ids where ids must be."""
        if not args.keys() >= self.keys:
            return False
        for key in _ID_KEYS:
            value = args.get(key)
            if type(value) is not str and (value is not None or key in self.not_none):
                return next(_tenant_problems(args, self.not_none), None) is None
        return True

    def missing(self, args: Mapping[str, object]) -> list[str]:
        """Required keys that are absent, the tenant keys first."""
        return [key for key in self.required if key not in args]

    def check_present(self, worker: str, args: Mapping[str, object]) -> None:
        """The check at run time: `MissingArgError` or `InvalidArgsError`, before any host code."""
        if self.accepts(args):
            return
        if missing := self.missing(args):
            raise MissingArgError(missing[0], sorted(map(str, args)))
        raise InvalidArgsError(worker, [*_tenant_problems(args, self.not_none)])


def _says(hint: Any, qualifier: object) -> bool:
    text = getattr(hint, "__forward_arg__", None)
    if text is not None:
        return re.search(rf"\b{getattr(qualifier, '_name', qualifier)}\[", text) is not None
    while (origin := get_origin(hint)) is not None:
        if origin is qualifier:
            return True
        if origin not in (ReadOnly, NotRequired, Required, Annotated):
            return False
        hint = get_args(hint)[0]
    return False


def _admits_none(hint: Any) -> bool:
    text = getattr(hint, "__forward_arg__", None)
    if text is not None:
        return re.search(r"\b(None|Optional|Any|object)\b", text) is not None
    while get_origin(hint) in (ReadOnly, NotRequired, Required, Annotated) or hasattr(hint, "__value__"):
        hint = hint.__value__ if hasattr(hint, "__value__") else get_args(hint)[0]
    return hint in (Any, object, None, NoneType) or NoneType in get_args(hint)


def check_args(worker: str, args: Mapping[str, Any], form: ArgsForm, limit: int = MAX_ARGS_BYTES) -> str:
    """The args as JSON text, or `InvalidArgsError` naming everything wrong. The mapping is not kept.

    One JSON round trip that comes back equal accepts; only after a failure are the args walked to name
    what is wrong. `limit` is in bytes of the JSON text.
    """
    if not isinstance(args, dict):
        raise InvalidArgsError(worker, [f"they are of type {type(args).__name__}, expected a dict"])
    try:
        text = to_json(args)
        if (
            json.loads(text) == args
            and len(text) <= limit
            and form.accepts(args)
            and (text.count("{") + text.count("[") <= MAX_DEPTH or not _too_deep(args, MAX_DEPTH))
        ):
            return text
        size = len(text)
    except (TypeError, ValueError, RecursionError):
        size = 0
    absent = form.missing(args)
    problems = [
        f"key {key!r} is missing" + (_NONE_IS_FINE if key in {*TENANT_KEYS} - form.not_none else "")
        for key in absent
    ]
    problems += _tenant_problems(args, form.not_none)
    problems += islice(_json_problems(args, "", 1), 20)  # a value that holds itself has no end of them
    if size > limit:
        problems.append(
            f"they take {size} bytes as JSON, at most {limit} are allowed: pass an id instead of the data"
        )
    problems = problems or ["they do not survive a JSON round trip"]
    raise (MissingTenantKeyError if {*absent} & {*TENANT_KEYS} else InvalidArgsError)(worker, problems)


_NONE_IS_FINE: Final = ", pass None where there is nobody"


def _id_problem(key: str, value: object) -> str | None:
    if value is None or (isinstance(value, (str, int)) and not isinstance(value, bool)):
        return None
    return f"{key!r} is of type {type(value).__name__}, expected str, int or None"


def _tenant_problems(args: Mapping[str, object], not_none: frozenset[str]) -> Iterator[str]:
    for key in _ID_KEYS:
        value = args.get(key)
        if value is None:
            if key in not_none and key in args:
                yield _NO_ORGANIZATION if key == "organization_id" else f"{key!r} is None, expected an id"
        elif type(value) is not str and (problem := _id_problem(key, value)):
            yield problem


def _too_deep(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        items = list(cast("dict[object, object]", value).values())
    elif isinstance(value, list):
        items = cast("list[object]", value)
    else:
        return False
    return levels == 0 or any(_too_deep(item, levels - 1) for item in items)


def _json_problems(value: object, path: str, depth: int) -> Iterator[str]:
    """What of a value is not JSON, each with its place; values themselves are never named."""
    where = path or "args"
    if depth > MAX_DEPTH and isinstance(value, (dict, list)):
        yield f"{where} is nested deeper than {MAX_DEPTH} levels"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{where} is NaN or infinite, which JSON has no number for"
    elif isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if isinstance(key, str):
                yield from _json_problems(item, f"{path}.{key}" if path else key, depth + 1)
            else:
                yield f"a key of {where} is of type {type(key).__name__}, expected str"
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _json_problems(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, int):
        try:
            str(value)
        except ValueError:  # sys.set_int_max_str_digits
            yield f"{where} is an int of more digits than Python writes"
    elif value is not None and not isinstance(value, str):
        yield f"{where} is of type {type(value).__name__}, expected a JSON value"
