"""The worker process's side, where no process is needed to see it."""

from typing import Any

import pytest

from rq_host.jobs import make_host
from sigra_workers import Workers
from sigra_workers_rq import boot, dispatch, process


def test_dispatch_is_for_a_worker_process_to_call() -> None:
    with pytest.raises(RuntimeError, match="for RQ's worker processes to call"):
        dispatch()


def test_boot_outside_of_the_command_binds_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound: list[Workers[Any]] = []
    monkeypatch.setattr(process, "_bound", bound)
    workers = make_host({"url": "redis://127.0.0.1:1"}).workers
    assert boot(workers) is workers
    assert bound == [workers]
