"""Every rule of the kit is broken by a liar, and says so.

That it breaks no other rule is looked at by sample: of most liars the first one and three more, of some that
can't run beside others the first alone.
"""

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from tests.conformance.liars import LIARS, IsAlwaysEarly
from tests.conformance.support import RULES, failures, memory

from sigra_workers.conformance import Harness, Rule

pytestmark = pytest.mark.slow
Found: TypeAlias = dict[object, "Future[dict[int, str]]"]
FIRST: Final = RULES[0]
ALONE: Final = (40, 41, 43)
"""Rules that look at the whole process: its log, its sockets."""
LIES: Final = [
    (18, "dies_of_broken_payloads"),
    (22, "forgets"),
    (22, "counts_no_crash"),
    (20, "counts_no_crash"),
    (21, "forgets"),
    (23, "renews_no_lease"),
]


BESIDE: Final = [rule for rule in RULES if rule.number not in (*ALONE, 18, 19)]
"""Rules that hold while other liars are at work in this process: 19 waits for a fresh one, 18 ends one."""
BREAKS_MORE: Final = {15: {3}, 25: {2, 23, 24}, 33: {4, 16, 17}, 38: {37}}
"""Lies that can't be told without breaking such rules as well."""


def beside(rule: Rule) -> list[Rule]:
    """Three further rules to check a liar against, others for each."""
    start = RULES.index(rule) + 1
    found = [BESIDE[(start + step) % len(BESIDE)] for step in (0, 13, 26)]
    return [one for one in found if one not in (FIRST, rule)]


def with_the_first(rule: Rule) -> list[Rule]:
    """The rule, and the first one beside it, unless its liar ends the process and so breaks both."""
    return [rule] if rule.number in (FIRST.number, 18) else [FIRST, rule]


def inside(rule: Rule) -> dict[int, str]:
    """Which rules the liar of a rule breaks: the first one, that one and three more are checked."""
    harness = memory(
        adapter="liar",
        plugins=[LIARS[rule.number]({})],
        unreachable_settings={"down": True},
        patience=8.0,
        recovery=1.0,
    )
    more = [] if rule.number in (*ALONE, 7, 18) else beside(rule)  # 7 fails whatever many threads send
    return failures(harness, [*with_the_first(rule), *more])


def early() -> dict[int, str]:
    """Which rules a liar breaks that is early, with the jobs of all rules in the queue."""
    return failures(memory(adapter="liar", plugins=[IsAlwaysEarly({})]), RULES)


def in_processes(rule: Rule, lie: str, folder: Path) -> dict[int, str]:
    """Which rules the worker processes of that lie break."""
    harness = Harness(
        adapter="toy",
        settings={"path": str(folder / "jobs.sqlite")},
        command=[sys.executable, "-m", "tests.conformance.toy_liars", lie, "{queue}"],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        patience=8.0,
        recovery=1.0,
    )
    return failures(harness, with_the_first(rule))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What every liar breaks, begun at the same time, as most of it is waiting."""
    pool = ThreadPoolExecutor(10)
    futures: Found = {"early": pool.submit(early)}
    futures |= {rule.number: pool.submit(inside, rule) for rule in RULES if rule.number not in ALONE}
    for number, lie in LIES:
        task = partial(in_processes, RULES[number - 1], lie, tmp_path_factory.mktemp(lie))
        futures[number, lie] = pool.submit(task)
    pool.shutdown()
    return futures


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"R{rule.number:02}")
def test_the_liar_of_a_rule_breaks_it_and_none_of_a_few_others(rule: Rule, found: Found) -> None:
    broken = inside(rule) if rule.number in ALONE else found[rule.number].result()
    assert rule.number in broken
    assert {*broken} - {rule.number} <= BREAKS_MORE.get(rule.number, set()), broken
    assert f"rule R{rule.number:02}: {rule.statement}" in broken[rule.number]


def test_delays_that_are_early_are_caught_in_a_busy_queue(found: Found) -> None:
    broken = found["early"].result()
    assert {*broken} >= {30, 31, 32}, broken


@pytest.mark.parametrize(("number", "lie"), LIES)
def test_worker_processes_that_lie_are_caught(number: int, lie: str, found: Found) -> None:
    broken = found[number, lie].result()
    assert [*broken] == [number], broken


def test_every_rule_has_a_liar_and_every_liar_a_rule() -> None:
    assert [rule.number for rule in RULES] == sorted(LIARS) == [*range(1, len(RULES) + 1)]
