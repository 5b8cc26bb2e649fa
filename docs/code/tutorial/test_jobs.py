"""What the jobs do, without a server."""

from pathlib import Path

import pytest

from app import accounts
from app.jobs import CloseAccountArgs, close_account
from sigra_workers import Dead, MissingArgError, Ok
from sigra_workers.testing import SigraTesting

ARGS = CloseAccountArgs(
    organization_id="northwind", actor_id="ann", impersonating_from="admin", account_id="acc_1"
)


@pytest.fixture(autouse=True)
def _data_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_account_is_closed_in_its_organization_alone(sigra: SigraTesting) -> None:
    assert sigra.perform_job(close_account, ARGS) == Ok("closed")
    assert accounts.run("SELECT * FROM accounts WHERE state = 'closed'") == [("northwind", "acc_1", "closed")]
    sigra.assert_audit_logged(action="account.closed", real_actor="admin", effective_user="ann")


def test_a_job_without_an_organization_never_runs(sigra: SigraTesting) -> None:
    payload = sigra.payload(close_account, ARGS)
    del payload["args"]["organization_id"]
    outcome = sigra.perform_payload(payload)
    assert isinstance(outcome, Dead)
    assert isinstance(outcome.error, MissingArgError)
    sigra.refute_audit_logged(action="account.closed")
