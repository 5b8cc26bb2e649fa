"""What a consumer gets: the built distributions, installed outside of the checkout."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = [pytest.mark.wheels, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[1]
PROJECTS = {
    "sigra_workers": ROOT,
    **{f"sigra_workers_{path.parent.name}": path.parent for path in ROOT.glob("adapters/*/pyproject.toml")},
    "sigra_workers_toy": ROOT / "examples" / "sigra-workers-toy",
}
MISSING_KEY = 'close_account.new({"organization_id": "org_1", "account_id": "acc_1"})'
MESSAGE = 'error: Missing key "actor_id" for TypedDict "CloseAccountArgs"  [typeddict-item]'


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this checkout."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    return subprocess.run(command, cwd=cwd, env=outside, capture_output=True, text=True, check=False)


def install(folder: Path, wheels: Sequence[Path], *others: str) -> Path:
    """A clean environment with the wheels, and others as pinned for development; its interpreter."""
    venv.create(folder)
    pins = ROOT / "requirements" / "dev.txt"
    done = run(ROOT / "tools" / "install", folder, "-c", pins, *wheels, *others, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin" / "python"


def build(project: Path, folder: Path) -> Path:
    """Build a project's wheel into an empty folder; the wheel."""
    command = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, project)
    done = run(*command, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each distribution, by the name it is imported by."""
    return {name: build(project, tmp_path_factory.mktemp("dist")) for name, project in PROJECTS.items()}


@pytest.fixture(scope="module")
def bare(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with the core and what it depends on."""
    return install(tmp_path_factory.mktemp("bare"), [wheels["sigra_workers"]])


@pytest.fixture(scope="module")
def consumer(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with core, all adapters and mypy."""
    return install(tmp_path_factory.mktemp("consumer"), [*wheels.values()], "mypy")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder with a copy of the example application."""
    shutil.copytree(ROOT / "examples", tmp_path / "host", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "host"


def mypy(python: Path, host: Path) -> subprocess.CompletedProcess[str]:
    return run(python, "-m", "mypy", "--strict", "--config-file=", "-p", "app", cwd=host)


@pytest.mark.parametrize("name", PROJECTS)
def test_a_wheel_is_typed_and_holds_its_package_alone(wheels: dict[str, Path], name: str) -> None:
    files = ZipFile(wheels[name]).namelist()
    assert f"{name}/py.typed" in files
    assert {file.partition("/")[0].partition("-")[0] for file in files} == {name}


def test_the_core_brings_two_dependencies(bare: Path, tmp_path: Path) -> None:
    code = "from importlib.metadata import distributions; print(*(found.name for found in distributions()))"
    done = run(bare, "-c", code, cwd=tmp_path)
    assert {*done.stdout.split()} == {"sigra-workers", "pluggy", "typing_extensions"}


def test_the_core_works_without_a_queue_library(bare: Path, tmp_path: Path) -> None:
    code = "import sigra_workers; print(type(sigra_workers.Workers().adapter).__name__); import rq"
    done = run(bare, "-W", "error", "-c", code, cwd=tmp_path)
    assert done.stdout == "MemoryAdapter\n"
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'rq'\n")


def test_the_example_type_checks_outside_of_the_checkout(consumer: Path, host: Path) -> None:
    checked = mypy(consumer, host)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout


@pytest.mark.parametrize(
    ("queue", "boot_file"), [("arq", "arq_lifecycle"), ("dramatiq", "dramatiq_app"), ("rq", "rq_lifecycle")]
)
def test_the_example_boots_on_each_queue(consumer: Path, host: Path, queue: str, boot_file: str) -> None:
    code = (
        f"import os; os.environ['APP_QUEUE'] = '{queue}'; import app.{boot_file};"
        "import sigra_workers; print(sigra_workers.__file__)"
    )
    done = run(consumer, "-W", "error", "-c", code, cwd=host)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout).is_relative_to(consumer.parents[1])


def test_a_line_without_actor_id_fails_outside_of_the_checkout(consumer: Path, host: Path) -> None:
    module = host / "app" / "web.py"
    lines = [*module.read_text().splitlines(), MISSING_KEY]
    module.write_text("\n".join(lines) + "\n")
    done = mypy(consumer, host)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:-1] == [f"app/web.py:{len(lines)}: {MESSAGE}"]
