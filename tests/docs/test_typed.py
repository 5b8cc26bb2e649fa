"""Both type checkers at their strictest, on the code of each page as its reader has it in a folder."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.checkers import Findings, pyright, run
from tests.docs.blocks import ROOT, code
from tests.docs.test_leave import drop
from tests.testing.test_page import lay_out

pytestmark = [pytest.mark.typing, pytest.mark.slow]

CACHE: Final = str(ROOT / ".mypy_cache" / "docs")
CODE: Final = code("docs/code")
MIGRATED: Final = ("migrate/app", "migrate/new")
FOLDERS: Final[dict[str, tuple[str, ...]]] = {
    **{
        page: (page,)
        for page in (
            *("audit", "audit-to-a-database", "child-jobs", "dead-jobs", "erase", "leave"),
            *("production", "row-level-security", "scope-builder"),
        )
    },
    "leave-after": ("leave",),
    **{
        f"migrate-{library}": (
            *MIGRATED,
            *(f"migrate/{library}/{name}" for name in ("before", "workers", "after")),
        )
        for library in ("rq", "dramatiq", "arq")
    },
    **{
        f"roll-out-{version}": ("roll-out/before", f"roll-out/{version}")
        for version in ("before", "field", "renamed", "reshaped")
    },
    "testing": (),
}
"""What is laid over each other in each, as a reader does."""
CHANGES: Final[dict[str, Callable[[Path], None]]] = {"leave-after": drop, "testing": lay_out}
STRICT: Final = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    "reportUnknownMemberType": "none",  # the queue libraries and redis-py leave parts untyped
    "reportUnusedImport": "none",  # a boot file imports what registers the workers
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All folders."""
    found = tmp_path_factory.mktemp("typed").resolve()
    for name, sources in FOLDERS.items():
        for source in sources:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CODE / source, found / name, dirs_exist_ok=True, ignore=ignored)
        CHANGES.get(name, bool)(found / name)
    return found


@pytest.fixture(scope="module")
def by_pyright(base: Path) -> Findings:
    """What pyright finds, in one run."""
    files = [str(file.relative_to(base)) for name in FOLDERS for file in (base / name).rglob("*.py")]
    roots = [{"root": name} for name in FOLDERS]
    return pyright(*files, cwd=base, config={**STRICT, "executionEnvironments": roots})


@pytest.mark.parametrize("folder", FOLDERS)
def test_pyright_finds_nothing_in_the_code_of_a_page(by_pyright: Findings, folder: str) -> None:
    assert {name: found for name, found in by_pyright.items() if name.startswith(f"{folder}/")} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_mypy_finds_nothing_in_the_code_of_a_page(base: Path, folder: str) -> None:
    strict = ("--strict", "--config-file=", "--cache-dir", CACHE, "--explicit-package-bases")
    done = run("mypy", *strict, ".", cwd=base / folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_who_has_left_imports_nothing_of_ours(base: Path) -> None:
    assert not any("sigra_workers" in file.read_text() for file in (base / "leave-after").rglob("*.py"))
