"""What importing the core costs and needs, and that the distributions stay in step."""

import ast
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import sigra_workers

ROOT = Path(__file__).parents[1]
ADAPTERS = sorted(ROOT.glob("adapters/*/pyproject.toml"))
PROJECTS = [ROOT / "pyproject.toml", *ADAPTERS, ROOT / "examples" / "sigra-workers-toy" / "pyproject.toml"]
QUEUES = ["arq", "celery", "dramatiq", "pika", "psycopg", "redis", "rq", "sqlalchemy", "pytest"]
SLOW = {
    *("asyncio", "concurrent.futures", "ctypes", "hashlib", "importlib.metadata"),
    *("logging", "random", "subprocess", "traceback", "uuid"),
}
SOURCES = sorted(Path(sigra_workers.__file__).parent.rglob("*.py"))
MODULES = sorted(found.name for found in pkgutil.walk_packages(sigra_workers.__path__, "sigra_workers."))
OF_PYTEST = ("sigra_workers.conformance", "sigra_workers.testing.plugin")
PRODUCT = [name for name in MODULES if not name.startswith(OF_PYTEST)]
"""All but the conformance kit and the pytest plugin."""

BLOCKED = """
import importlib, json, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {*json.loads(sys.argv[1])}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Block())
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def python(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, cwd=ROOT)


def imported(code: str = "") -> set[str]:
    """The modules that come with sigra_workers, and with code that uses it."""
    lines = ["import json, sys", "before = set(sys.modules)", "import sigra_workers", code]
    lines.append("print(json.dumps(list(set(sys.modules) - before)))")
    return {*json.loads(python("-c", "\n".join(lines)).stdout)}


def project(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())["project"]  # type: ignore[no-any-return]


# -- imports -------------------------------------------------------------------------------------------


def test_every_module_of_the_core_imports_without_any_queue_library() -> None:
    assert len(PRODUCT) > 15
    found = json.loads(python("-c", BLOCKED, json.dumps(QUEUES), json.dumps(PRODUCT)).stdout)
    assert not {*found} & {*QUEUES}


def test_blocking_a_library_really_blocks_it() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        python("-c", BLOCKED, json.dumps(["pluggy"]), json.dumps(["sigra_workers"]))
    assert "pluggy is blocked" in caught.value.stderr


def test_a_memory_job_runs_without_any_queue_library() -> None:
    job = (
        "from sigra_workers import *; from sigra_workers.memory import MemoryAdapter\n"
        "workers = Workers()\n"
        "handle = workers.worker(name='a')(lambda scope, args: Ok('done'))\n"
        "handle.enqueue(tenant_args(organization_id=1, actor_id=2))\n"
        "MemoryAdapter.of(workers).drain()\n"
        "assert [*MemoryAdapter.of(workers).results.values()] == ['done']\n"
    )
    python("-c", f"{BLOCKED}\n{job}", json.dumps(QUEUES), "[]")


def test_import_sigra_workers_imports_no_queue_library_and_nothing_slow_that_only_some_need() -> None:
    found = imported()
    assert {"sigra_workers.dispatch", "sigra_workers.workers"} <= found
    assert not {name.partition(".")[0] for name in found} & {*QUEUES}
    assert not found & SLOW


def test_what_adapters_import_may_be_imported_as_the_process_ends() -> None:
    found = imported("import sigra_workers.loops, sigra_workers.store, sigra_workers.transact")
    assert "asyncio" in found
    assert "concurrent.futures.thread" not in found  # it registers what is to be done at the end


def test_making_workers_looks_for_no_distribution_and_starts_no_loop() -> None:
    made = "sigra_workers.Workers().worker(name='a')(lambda scope, args: sigra_workers.Ok())"
    assert not imported(made) & {
        "asyncio",
        "importlib.metadata",
        "sigra_workers.memory",
        "sigra_workers.loops",
    }


def test_the_core_depends_on_two_small_libraries_alone() -> None:
    names = [re.split(r"[<>=]", line)[0] for line in project(ROOT / "pyproject.toml")["dependencies"]]
    assert names == ["pluggy", "typing-extensions"]


# -- what is public ------------------------------------------------------------------------------------


def order(name: str) -> tuple[int, str]:
    """As ruff sorts `__all__`: constants, classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_all_is_literal_sorted_and_without_duplicates() -> None:
    tree = ast.parse(Path(sigra_workers.__file__).read_text())
    (literal,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert literal == sigra_workers.__all__
    assert literal == sorted({*literal}, key=order)


def test_all_is_complete() -> None:
    submodules = {name.rpartition(".")[2] for name in MODULES}
    named = {name for name in vars(sigra_workers) if not name.startswith(("_", "@py"))}  # @py: pytest's own
    public = named - submodules
    assert {*sigra_workers.__all__} == public | {"__version__"} | ({*sigra_workers.__all__} & submodules)


@pytest.mark.parametrize("name", sigra_workers.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert hasattr(sigra_workers, name)


def test_init_only_re_exports() -> None:
    kinds = {type(node) for node in ast.parse(Path(sigra_workers.__file__).read_text()).body}
    assert kinds == {ast.Expr, ast.ImportFrom, ast.Assign}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_module_says_in_a_sentence_what_it_is(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert said.partition("\n")[0].endswith(".")


# -- versions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_versions_are_literal_and_in_step(path: Path) -> None:
    assert project(path)["version"] == sigra_workers.__version__


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.parent.name)
def test_an_adapter_pins_the_core_it_was_released_with_and_has_an_extra(path: Path) -> None:
    pin = f"=={sigra_workers.__version__}"
    found = project(path)
    assert f"sigra-workers{pin}" in found["dependencies"]
    assert project(PROJECTS[0])["optional-dependencies"][path.parent.name] == [f"{found['name']}{pin}"]


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_every_distribution_is_typed_and_found_by_the_entry_point_of_its_name(path: Path) -> None:
    (package,) = (path.parent / "src").glob("sigra_workers*/py.typed")
    assert package.read_text() == ""
    name = "memory" if path == PROJECTS[0] else path.parent.name.removeprefix("sigra-workers-")
    assert [*project(path)["entry-points"]["sigra_workers"]] == [name]
