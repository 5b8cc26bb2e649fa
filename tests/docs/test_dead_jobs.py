"""docs/how-to/dead-jobs.md, done on each queue, and its table of reasons."""

import re
import shutil
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.docs.blocks import blocks, code, path, texts
from tests.docs.production import eventually
from tests.docs.queues import WORKERS, Place, place
from tests.docs.terminal import fits

from sigra_workers import (
    AuditScope,
    Cancel,
    Error,
    Ok,
    OrganizationArgs,
    Result,
    Workers,
    organization_args,
)
from sigra_workers.protocols import Dead
from sigra_workers.testing import testing

PAGE: Final = "how-to/dead-jobs.md"
CODE: Final = code("docs/code/dead-jobs")
CONSOLE: Final = texts(PAGE, "console")
DYING, AUDITED = (block.text.splitlines() for block in blocks(PAGE, "text"))


@pytest.fixture(params=[*WORKERS])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Place]:
    with place(request, CODE, "invoices", tmp_path) as found:
        found.worker.start()
        yield found


def logged(site: Place, line: str) -> bool:
    """Whether the worker has logged it, whatever the format is."""
    level, name, text = line.split(maxsplit=2)
    lines = site.as_shown(site.log).splitlines()
    return any(level in there and name in there and there.endswith(text) for there in lines)


def mend(site: Place) -> None:
    """Deploy what mends the error."""
    shutil.copy(site.folder / "mended" / "invoices.py", site.folder / "app")
    site.worker.stop(30)  # and it is started anew


def die(site: Place) -> None:
    """What the page shows, until the job is dead."""
    site.show(CONSOLE[0])
    eventually(lambda: all(logged(site, line) for line in DYING), "it to die")
    listing = "sigra-workers dead list app.jobs:workers"
    eventually(lambda: "invoice-inv_7" in site.run(listing), "it to be listed")


@pytest.mark.integration
def test_a_job_dies_is_found_mended_and_sent_again(site: Place) -> None:
    die(site)
    _, found, resent, many, purged = CONSOLE
    site.show(found)
    assert '"invoice_id": "inv_7"' in site.run(
        "sigra-workers dead show app.jobs:workers invoice-inv_7 --args"
    )
    mend(site)
    site.show(resent)
    eventually(lambda: all(logged(site, line) for line in AUDITED), "the invoice to be sent")
    site.show(many)
    site.show(purged)


@pytest.mark.integration
@pytest.mark.parametrize("site", ["rq"], indirect=True)
def test_in_python_too(site: Place) -> None:
    die(site)
    assert site.run("python forget.py") == "0 forgotten\n"
    mend(site)
    assert (
        site.run("python recover.py")
        == "invoice-inv_7 2 ZeroDivisionError: float division by zero\n1 sent again\n"
    )
    eventually(lambda: all(logged(site, line) for line in AUDITED), "the invoice to be sent")


@pytest.mark.integration
@pytest.mark.parametrize("site", ["rq"], indirect=True)
def test_what_died_long_ago_is_forgotten(site: Place) -> None:
    die(site)
    site.edit("forget.py", "days=30", "days=0")
    assert site.run("python forget.py") == "1 forgotten\n"
    assert site.run("sigra-workers dead list app.jobs:workers") == "no dead jobs\n"


# -- the table of reasons -------------------------------------------------------------------------------


class Args(OrganizationArgs):
    key: str


def divide(scope: AuditScope, args: Args) -> Result[float]:
    return Ok(1 / 0)


def reasons() -> Iterator[str]:
    """One of each row of the table, in its order."""
    workers = Workers[AuditScope](unknown_worker_grace=0)

    def slow(scope: AuditScope, args: Args) -> Result[None]:
        time.sleep(0.05)
        return Ok()

    def ends(result: Any) -> Any:
        def perform(scope: AuditScope, args: Args) -> Any:
            return result

        return perform

    handles = [
        workers.declare("divide", Args, max_attempts=1),
        workers.declare("fail", Args, max_attempts=1),
        workers.declare("cancel", Args),
        workers.declare("cancel_on", Args, cancel_on=[ZeroDivisionError]),
        workers.declare("slow", Args, max_attempts=1, timeout=0.01),
        workers.declare("crash", Args, max_attempts=1),
        workers.declare("five", Args),
        workers.declare("unknown", Args),
    ]
    performs = [
        divide,
        ends(Error("the bank is closed")),
        ends(Cancel("legal hold")),
        divide,
        slow,
        divide,
        ends(5),
    ]
    for handle, perform in zip(handles, performs, strict=False):
        handle.implement(perform)
    args = Args(**organization_args(organization_id="northwind", actor_id="ann"), key="k")
    with testing(workers) as sigra:
        for handle in handles:
            payload = sigra.payload(handle, args)
            outcome = sigra.perform_payload(payload, crashes=int(handle.name == "crash"))
            assert isinstance(outcome, Dead), handle
            yield outcome.reason
        payload = sigra.payload(handles[0], args)
        del payload["args"]["key"]
        for broken in (payload, {**payload, "v": 2}, {**payload, "v": 0}):
            outcome = sigra.perform_payload(broken)
            assert isinstance(outcome, Dead)
            yield outcome.reason


def test_the_reasons_are_those_of_the_table() -> None:
    table = path(PAGE).read_text().partition("| the reason |")[2].partition("\n\n")[0]
    shown = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    assert len(shown) == 11
    assert [one for one, reason in zip(shown, reasons(), strict=True) if not fits(one, reason)] == []
