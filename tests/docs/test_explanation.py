"""docs/explanation/: its code, run as it stands there, and what it says of the library and of its losses."""

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.docs.blocks import code, path, texts

from sigra_workers import (
    AuditRef,
    AuditScope,
    Dead,
    InvalidArgsError,
    Ok,
    OrganizationArgs,
    Result,
    TenantArgs,
    Workers,
    organization_args,
)
from sigra_workers.store import DOUBT, LEASE
from sigra_workers.testing import testing

CODE: Final = code("docs/code/explanation")
(REFUSED,) = texts("explanation/audit-only.md", "python")
COMPARISON: Final = path("explanation/comparison.md").read_text()

QUEUES: Final = {  # the page's columns, and what their tables are called in losses.md
    "RQ": "rq",
    "Dramatiq on Redis": "dramatiq-redis",
    "Dramatiq on RabbitMQ": "dramatiq-rabbitmq",
    "arq": "arq",
}
AWAY: Final = r"broker killed, back after \d+ s; meanwhile"
MEASURED: Final = {  # the page's lines, and the measured ones that each of them stands for
    "its worker is killed in mid-job": r"worker killed in mid-job",
    "SIGTERM, and the job ends in time": r"SIGTERM in mid-job, the job ends in time",
    "SIGTERM, and the job takes too long": r"SIGTERM in mid-job, the job takes too long and is cut short",
    "the broker is away while the job runs on": f"{AWAY} the job runs on",
    "the broker is away while the job completes": f"{AWAY} the job completes",
}


@pytest.mark.parametrize("file", sorted(CODE.glob("*.py")), ids=lambda file: file.stem)
def test_the_code_does_what_it_says(file: Path) -> None:
    assert re.search(r"^ *(assert|with pytest\.raises)", file.read_text(), re.MULTILINE)
    runpy.run_path(str(file))


@pytest.mark.typing
def test_mypy_says_what_the_page_says(tmp_path: Path) -> None:
    head = "from sigra_workers import AuditScope, Ok, OrganizationArgs, Result\n\n\n"
    own = "class RequestScope: ...\n\n\nclass CloseAccountArgs(OrganizationArgs):\n    account_id: str\n\n\n"
    (tmp_path / "sample.py").write_text(head + own + REFUSED)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "sample.py"]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    errors = [line.split(": error: ")[1] for line in ran.stdout.splitlines()]
    assert errors == re.findall(r"# error: (.*)", REFUSED), ran.stdout


# -- absent, null and system; who is who -------------------------------------------------------------------


@pytest.fixture
def workers() -> Workers[AuditScope]:
    made = Workers[AuditScope]()

    @made.worker(name="some.where")
    def some_where(scope: AuditScope, args: TenantArgs) -> Result[Any]:
        return Ok([args["organization_id"], args["actor_id"]])

    @made.worker(name="somewhere")
    def somewhere(scope: AuditScope, args: OrganizationArgs) -> Result[Any]:
        return Ok([args["organization_id"], args["actor_id"]])

    return made


@pytest.mark.parametrize("value", [0, ""])
def test_0_and_the_empty_text_are_ids_like_any_other(workers: Workers[AuditScope], value: Any) -> None:
    handle: Any = workers.find("somewhere")
    with testing(workers) as sigra:
        assert sigra.perform_job(handle, {"organization_id": value, "actor_id": value}) == Ok([value, value])


@pytest.mark.parametrize(("name", "accepted"), [("some.where", True), ("somewhere", False)])
def test_no_organization_is_for_tenant_args_alone(
    workers: Workers[AuditScope], name: str, accepted: bool
) -> None:
    handle: Any = workers.find(name)
    args = {"organization_id": None, "actor_id": None}
    with testing(workers) as sigra:
        if accepted:
            assert handle.new(args).args == args
        else:
            with pytest.raises(InvalidArgsError):
                handle.new(args)
        payload = sigra.payload(handle, {"organization_id": 1, "actor_id": None}) | {"args": args}
        assert isinstance(sigra.perform_payload(payload), Dead) is not accepted


def test_a_workers_scope_hands_on_all_three_ids() -> None:
    keys = organization_args(AuditScope(AuditRef("ann"), AuditRef("northwind"), AuditRef("admin")))
    assert {**keys} == {"organization_id": "northwind", "actor_id": "ann", "impersonating_from": "admin"}


# -- at least once -----------------------------------------------------------------------------------------


def rows(text: str, name: str) -> Iterator[list[str]]:
    """The lines of the table between two comments, its head first."""
    table = text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]
    for line in table.strip().splitlines():
        if not set(line) <= set("|-"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def again(queue: str, happens: str) -> str:
    """What was measured, in the words of the page."""
    head, *lines = rows(path("explanation/losses.md").read_text(), queue)
    found = [
        dict(zip(head, line, strict=True)) for line in lines if re.fullmatch(happens, line[0]) is not None
    ]
    said = {"yes, though it had ended" if one["duplicates"] != "none" else one["run again"] for one in found}
    assert len(said) == 1, (queue, happens, found)
    return said.pop()


def test_what_runs_again_is_what_was_measured() -> None:
    (_, *columns), *lines = rows(path("explanation/at-least-once.md").read_text(), "again")
    assert columns == [*QUEUES]
    assert {line[0]: line[1:] for line in lines} == {
        shown: [again(queue, happens) for queue in QUEUES.values()] for shown, happens in MEASURED.items()
    }


def test_a_claim_outlasts_a_standstill_as_the_page_says() -> None:
    said = re.findall(r"longer than (\d+) s", path("explanation/at-least-once.md").read_text())
    assert said == [f"{LEASE + DOUBT:.0f}"]


# -- comparison --------------------------------------------------------------------------------------------


def test_every_neighbour_is_linked_and_every_line_whole() -> None:
    tables = [found.splitlines() for found in re.findall(r"(?:^\|.*\n)+", COMPARISON, re.MULTILINE)]
    assert len(tables) == 2
    for head, _, *lines in tables:
        for line in lines:
            assert line.count("|") == head.count("|"), line
            assert line.startswith(("| [", "| sigra-workers ")), line


def test_what_others_do_is_quoted_from_a_place() -> None:
    links = re.findall(r"\]\((http[^)]*)\)", COMPARISON)
    assert len({*links}) > 40
    assert all(link.startswith("https://") for link in links)
