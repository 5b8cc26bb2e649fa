"""Records: frozen dataclasses that cost little, to define and to make.

`dataclasses` compiles six functions for each such class, and its frozen ``__init__`` calls
`object.__setattr__` for every field, many times what a plain store takes. Here ``__init__`` alone is
compiled, and while it runs the instance is one of an open twin: the same class without the guard.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import MISSING, FrozenInstanceError
from typing import TYPE_CHECKING, Any, Final, NoReturn

__all__ = ["record"]

_thaw: Final = vars(object)["__class__"].__set__


def _record(*, init: bool = True, kw_only: bool = False, **_: bool) -> Callable[[Any], Any]:
    """What `dataclasses.dataclass` does with ``frozen=True, slots=True``, which is always meant."""

    def decorate(cls: Any) -> Any:
        described: Any = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)
        described.__dataclass_params__.frozen = True  # or no frozen dataclass could derive from it
        names = [field.name for field in dataclasses.fields(described)]
        own: dict[str, Any] = {**vars(cls)}
        for name in (*names, *_OF_NO_SLOTS):
            own.pop(name, None)
        scope: dict[str, Any] = {"thaw": _thaw, "restore": _restore}
        body: dict[str, Any] = {**_SHARED, **own, "__slots__": tuple(names)}
        if init:
            body["__init__"] = _init(described, kw_only, scope)
        scope["twin"] = type(cls)(cls.__name__, cls.__bases__, body)
        scope["cls"] = type(cls)(cls.__name__, cls.__bases__, {**body, **_GUARD})
        return scope["cls"]

    return decorate


def _init(described: Any, kw_only: bool, scope: dict[str, Any]) -> Any:
    """Compile the ``__init__`` of a class that has fields; `scope` is where it finds what it names."""
    fields = dataclasses.fields(described)
    parameters, made = ["self", "*"] if kw_only and fields else ["self"], list[str]()
    for field in fields:
        name, default = field.name, ""
        if field.default is not MISSING:
            scope[f"default_{name}"], default = field.default, f"=default_{name}"
        elif field.default_factory is not MISSING:
            scope[f"make_{name}"], default = field.default_factory, "=..."
            made.append(f"\n if {name} is ...: {name} = make_{name}()")
        parameters.append(name + default)
    names = [field.name for field in fields]
    stores = "".join(f"\n  self.{name} = {name}" for name in names)
    exec(  # noqa: S102  # names of fields alone, as in dataclasses
        f"def __init__({', '.join(parameters)}):{''.join(made)}"
        f"\n if self.__class__ is cls:\n  thaw(self, twin){stores}\n  self.__class__ = cls"
        f"\n else: restore(self, ({''.join(f'{name}, ' for name in names)}))",  # of a subclass
        scope,
    )
    init = scope["__init__"]
    init.__annotations__ = {field.name: field.type for field in fields}
    return init


def _restore(self: Any, state: Iterable[object]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=False):
        object.__setattr__(self, field.name, value)


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _key(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, field.name) for field in dataclasses.fields(self) if field.compare])


def _hash(self: Any) -> int:
    return hash(_key(self))


def _eq(self: Any, other: Any) -> bool:
    return _key(self) == _key(other) if other.__class__ is self.__class__ else NotImplemented


def _repr(self: Any) -> str:
    shown = [
        f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr
    ]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse(self: object, name: str, *value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")


_OF_NO_SLOTS: Final = ("__dict__", "__weakref__")
_GUARD: Final = {"__setattr__": _refuse, "__delattr__": _refuse}
_SHARED: Final = {
    "__eq__": _eq,
    "__getstate__": _state,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setstate__": _restore,
}

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    record = _record
