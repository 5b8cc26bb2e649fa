"""Records are frozen dataclasses in all that a user of one can see."""

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import pytest

from sigra_workers.records import record

T = TypeVar("T")


@record(frozen=True, slots=True)
class Point(Generic[T]):
    """A point."""

    x: int
    y: int = 2
    names: list[T] = field(default_factory=list[T], repr=False)
    drawn: bool = field(default=False, compare=False)

    def total(self) -> int:
        return self.x + self.y


@dataclass(frozen=True, slots=True)
class Reference(Generic[T]):
    """A point."""

    x: int
    y: int = 2
    names: list[T] = field(default_factory=list[T], repr=False)
    drawn: bool = field(default=False, compare=False)


@record(frozen=True, slots=True, kw_only=True)
class Named:
    """What is given by name."""

    name: str
    at: tuple[int, ...]


@record(frozen=True, slots=True)
class Empty:
    """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled(Point[str]):
    label: str


class Plain(Point[str]):
    """Adds no field."""


def told(error: Callable[[], object]) -> str:
    with pytest.raises(FrozenInstanceError) as caught:
        error()
    return str(caught.value)


def test_a_record_is_what_the_dataclass_of_the_same_text_is() -> None:
    ours = Point[str](1)
    theirs: Reference[str] = Reference(1)  # Reference[str](1) fails on Python 3.11
    assert is_dataclass(ours)
    assert asdict(ours) == asdict(theirs) == {"x": 1, "y": 2, "names": [], "drawn": False}
    assert [f.name for f in fields(ours)] == [f.name for f in fields(theirs)]
    assert repr(ours) == repr(theirs).replace("Reference", "Point")
    assert Point.__match_args__ == Reference.__match_args__
    assert Point.__slots__ == Reference.__slots__
    assert [*inspect.signature(Point).parameters] == [*inspect.signature(Reference).parameters]
    assert Point.__doc__ == "A point."
    assert ours.total() == 3


@pytest.mark.parametrize("make", [lambda: Point[str](1), lambda: Labelled(1, label="a"), lambda: Plain(1)])
def test_a_record_refuses_every_assignment(make: Callable[[], Any]) -> None:
    made = make()
    for name in ("x", "y"):
        assert told(partial(setattr, made, name, 5)) == f"cannot assign to field {name!r}"
        assert told(partial(delattr, made, name)) == f"cannot delete field {name!r}"
    with pytest.raises((AttributeError, TypeError)):
        made.z = 1
    assert (made.x, made.y) == (1, 2)


def test_a_factory_makes_each_record_its_own_default() -> None:
    first, second = Point[str](1), Point[str](1)
    assert first.names is not second.names
    assert Point(1, names=["a"]).names == ["a"]


def test_records_are_equal_by_what_is_compared_and_of_one_class() -> None:
    assert Point[str](1) == Point[str](1, drawn=True)
    assert Point[str](1) != Point[str](2)
    assert Point[str](1) != Plain(1)
    assert {Named(name="a", at=(1,)), Named(at=(1,), name="a")} == {Named(name="a", at=(1,))}
    assert len({Empty(), Empty()}) == 1
    assert hash(Named(name="a", at=(1,))) != hash(Named(name="a", at=(2,)))


@pytest.mark.parametrize(
    "made", [Named(name="a", at=(1,)), Point[str](1), Empty(), Labelled(1, label="a"), Plain(1)]
)
def test_a_record_survives_pickling_copying_and_replacing(made: Any) -> None:
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == copy.copy(made) == replace(made) == made
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def test_a_dataclass_may_derive_from_a_record() -> None:
    made = Labelled(1, 3, label="a")
    assert (made.x, made.y, made.label, made.total()) == (1, 3, "a", 4)
    assert repr(Plain(1)) == "Plain(x=1, y=2, drawn=False)"


def test_wrong_arguments_are_refused_by_name() -> None:
    wrong: Any = Named
    with pytest.raises(TypeError, match="'at'"):
        wrong(name="a")
    with pytest.raises(TypeError, match="positional"):
        wrong("a", (1,))
    with pytest.raises(TypeError, match="'other'"):
        wrong(name="a", at=(), other=1)
