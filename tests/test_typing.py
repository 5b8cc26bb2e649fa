"""Types are a feature: what users meet in their checkers, and that these tests would notice it change."""

import re
import shutil
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.checkers import Findings, pyright, run

pytestmark = pytest.mark.typing

ROOT = Path(__file__).parents[1]
TYPING = ROOT / "tests" / "typing"
FILES = ("positive.py", "negative.py")
CHECKED = {"whole": FILES, **{Path(file).stem: (file,) for file in FILES}}
PYTHONS = ("3.11", "3.12", "3.13")
CACHE = ROOT / ".mypy_cache" / "typing"

STRICT: Mapping[str, Any] = tomllib.loads((TYPING / "pyproject.toml").read_text())["tool"]["pyright"]


def mypy(*options: str | Path, cwd: Path, path: Sequence[Path] = ()) -> Findings:
    """What mypy finds wrong, file by file."""
    strict = ("--config-file", TYPING / "pyproject.toml", "--cache-dir", CACHE, "--no-error-summary")
    done = run("mypy", *strict, *options, cwd=cwd, path=path)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Findings = defaultdict(list)
    for line in done.stdout.splitlines():
        named = re.match(r"(.+?):\d+: ", line)
        assert named is not None, done.stdout
        found[named[1]].append(line)
    assert bool(found) == bool(done.returncode), done.stderr
    return found


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("files", CHECKED.values(), ids=CHECKED)
def test_mypy_finds_every_line_as_expected(files: tuple[str, ...], python: str) -> None:
    assert mypy(*files, "--python-version", python, cwd=TYPING, path=[ROOT / "src"]) == {}


@pytest.fixture(scope="module", params=PYTHONS)
def by_pyright(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """What pyright finds for a Python: in a folder where both files are checked, and where each is alone."""
    base = tmp_path_factory.mktemp("lines").resolve()
    for folder in CHECKED:
        (base / folder).mkdir()
        for file in FILES:  # one imports the other
            shutil.copy(TYPING / file, base / folder)
    names = [f"{folder}/{file}" for folder, files in CHECKED.items() for file in files]
    roots = [{"root": folder, "extraPaths": [str(ROOT / "src")]} for folder in CHECKED]
    config = {**STRICT, "pythonVersion": request.param, "executionEnvironments": roots}
    return pyright(*names, cwd=base, config=config)


@pytest.mark.parametrize("folder", CHECKED)
def test_pyright_finds_every_line_as_expected(by_pyright: Findings, folder: str) -> None:
    assert {name: found for name, found in by_pyright.items() if name.startswith(f"{folder}/")} == {}


def test_every_expected_error_is_numbered_once() -> None:
    lines = [line for line in (TYPING / "negative.py").read_text().splitlines() if ": ignore[" in line]
    marks = [re.fullmatch(r".+  # ([NMP])(\d+) .+", line) for line in lines]
    assert [line for line, mark in zip(lines, marks, strict=True) if mark is None] == []
    assert len({mark[2] for mark in marks if mark}) == len(lines)
    for line, mark in zip(lines, marks, strict=True):
        tools = ("# type: ignore[" in line, "# pyright: ignore[" in line)
        assert mark is not None
        assert tools == {"N": (True, True), "M": (True, False), "P": (False, True)}[mark[1]], line


def test_the_positive_file_runs() -> None:
    done = run("positive", cwd=TYPING)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True True\n", "")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            ["ty", "check", "--python", sys.prefix, "--color", "never", "--output-format", "concise"], id="ty"
        ),
        pytest.param(
            ["pyrefly", "check", "--python-interpreter-path", sys.executable, "--output-format", "min-text"],
            id="pyrefly",
        ),
    ],
)
def test_other_checkers_inform(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their findings are shown, not judged; that they ran at all is."""
    shutil.copy(TYPING / "positive.py", tmp_path)
    done = run(*command, "positive.py", cwd=tmp_path)
    with capsys.disabled():
        lines = done.stdout.splitlines() or done.stderr.splitlines()
        print(f"\n{command[0]} on positive.py, for information:", *lines, sep="\n  ")
    assert done.returncode in (0, 1), done.stderr


# -- the messages that users meet most -----------------------------------------------------------------


class Message(NamedTuple):
    """A line of a host with an error, and what each checker says."""

    code: str
    mypy: str
    pyright: str


MESSAGES = {
    path.stem: Message(*re.split(r"^--- \w+\n", path.read_text(), flags=re.MULTILINE))
    for path in sorted((TYPING / "messages").glob("*.txt"))
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Findings]:
    """What each checker says to all of them."""
    host = tmp_path_factory.mktemp("messages")
    files = [f"{name}.py" for name in MESSAGES]
    for name, message in MESSAGES.items():
        (host / f"{name}.py").write_text(message.code)
    path = [ROOT / "src", ROOT / "examples"]
    return {
        "mypy": mypy(*files, cwd=host, path=path),
        "pyright": pyright(
            *files, cwd=host, config={**STRICT, "extraPaths": [str(folder) for folder in path]}
        ),
    }


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("name", MESSAGES)
def test_the_message_is_the_pinned_one(said: dict[str, Findings], name: str, checker: str) -> None:
    expected: str = getattr(MESSAGES[name], checker)
    assert "\n".join(said[checker][f"{name}.py"]) + "\n" == expected


# -- the tests of the tests ----------------------------------------------------------------------------


class Break(NamedTuple):
    """One way to break the API: text of one module that is replaced wherever it stands there."""

    module: str
    old: str
    new: str


_OK_OVERLOADS = (
    '    @overload\n    def __init__(self: "Ok[None]") -> None: ...\n'
    "    @overload\n    def __init__(self, value: _Ok_co) -> None: ...\n"
)
_BASE_KEYS = (
    "\n    organization_id: ReadOnly[Id | None]\n    actor_id: ReadOnly[Id | None]\n"
    "    impersonating_from: NotRequired[ReadOnly[Id | None]]\n\n\nclass OrganizationArgs"
)
_DEFAULT_BUILDER = (
    '    @overload\n    def __init__(self: "Workers[AuditScope]", '
    "**options: Unpack[WorkersOptions]) -> None: ...\n"
    "    @overload\n    def __init__(self, *, scope_builder: ScopeBuilder[ScopeT], "
    "**options: Unpack[WorkersOptions]) -> None: ...\n"
)
BREAKS = {
    "actor_id may be left out": Break(
        "args",
        _BASE_KEYS,
        _BASE_KEYS.replace("actor_id: ReadOnly[Id | None]", "actor_id: NotRequired[Id | None]"),
    ),
    "the tenant keys may be changed": Break(
        "args", _BASE_KEYS, _BASE_KEYS.replace("actor_id: ReadOnly[Id | None]", "actor_id: Id | None")
    ),
    "an organization may be None": Break(
        "args", "    organization_id: ReadOnly[Id]\n\n\nclass TenantKeys", "    pass\n\n\nclass TenantKeys"
    ),
    "tenant_args returns an open dict": Break(
        "args", "class TenantKeys(TypedDict, closed=True)", "class TenantKeys(TypedDict)"
    ),
    "organization_args takes None": Break(
        "args", "*, organization_id: HostId, actor_id", "*, organization_id: HostId | None, actor_id"
    ),
    "fetch_arg with a form returns Any": Break(
        "args", "form: TypeForm[T], /) -> T: ...", "form: TypeForm[T], /) -> Any: ..."
    ),
    "None is a result": Break(
        "results", "Ok[R] | Error | Snooze | Cancel\n", "Ok[R] | Error | Snooze | Cancel | None\n"
    ),
    "Cancel is no result": Break("results", "Ok[R] | Error | Snooze | Cancel\n", "Ok[R] | Error | Snooze\n"),
    "Ok() is an Ok of anything": Break("results", _OK_OVERLOADS, ""),
    "Snooze takes whatever": Break("results", "seconds: int | timedelta)", "seconds: Any)"),
    "a scope is bound to nothing": Break("protocols", "bound=AuditOnly | None, ", ""),
    "perform takes an object for a scope": Break(
        "protocols", "def perform(self, scope: ScopeT_contra,", "def perform(self, scope: object,"
    ),
    "perform takes Any for a scope": Break(
        "protocols", "def perform(self, scope: ScopeT_contra,", "def perform(self, scope: Any,"
    ),
    "a builder can't decide": Break("protocols", "ScopeT_co | Cancel | Snooze", "ScopeT_co"),
    "AuditScope has every attribute": Break("scopes", "    if not TYPE_CHECKING:", "    if True:"),
    "AuditOnly lost its mark": Break(
        "scopes", "    sigra_authorizes: ClassVar[Literal[False]] = False\n", ""
    ),
    "AuditScope is no AuditOnly": Break("scopes", "class AuditScope(AuditOnly):", "class AuditScope:"),
    "a job is invariant in its args": Break(
        "jobs", "bound=TenantArgs, covariant=True, ", "bound=TenantArgs, "
    ),
    "a job has one more option": Break(
        "jobs", "    job_id: ReadOnly[str]\n", "    job_id: ReadOnly[str]\n    priority: int\n"
    ),
    "every job option must be given": Break(
        "jobs", "class JobOptions(TypedDict, total=False)", "class JobOptions(TypedDict)"
    ),
    "new takes any args": Break(
        "handles", "    def new(self, args: ArgsT, /, **", "    def new(self, args: Any, /, **"
    ),
    "enqueue tells nothing": Break(
        "handles", "**options: Unpack[JobOptions]) -> JobRef:", "**options: Unpack[JobOptions]) -> None:"
    ),
    "implement takes anything": Break(
        "handles", "self, worker: Worker[ScopeT, ArgsT, _Value], /", "self, worker: Any, /"
    ),
    "an around takes anything": Break(
        "handles", "Callable[[JobInfo, ScopeT, TenantArgs], ", "Callable[..., "
    ),
    "there is no default builder": Break("workers", _DEFAULT_BUILDER, ""),
    "the audit's scope may be left out": Break(
        "audit",
        "def log_safe(self, action: str, scope: object, /",
        "def log_safe(self, action: str, scope: object = None, /",
    ),
    "an outcome is any text": Break(
        "events", 'AuditOutcome: TypeAlias = Literal["success", "failure"]', "AuditOutcome: TypeAlias = str"
    ),
    "metadata is anything": Break("audit", "metadata: Mapping[str, JSON] | None\n", "metadata: Any\n"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Findings]]:
    """What both checkers find in each broken copy of the API, and in a whole one under the name ""."""
    base = tmp_path_factory.mktemp("broken").resolve()
    folders: dict[str, str] = {}
    for number, (name, change) in enumerate({"": None, **BREAKS}.items()):
        folders[name] = f"copy{number:02}"
        folder = base / folders[name]
        shutil.copytree(ROOT / "src", folder, ignore=shutil.ignore_patterns("__pycache__", "demo", "cli"))
        for file in FILES:
            shutil.copy(TYPING / file, folder)
        if change is not None:
            module = folder / "sigra_workers" / f"{change.module}.py"
            text = module.read_text()
            assert change.old in text, f"{name!r} has nothing left to break in {change.module}.py"
            module.write_text(text.replace(change.old, change.new))

    def by_mypy() -> dict[str, Findings]:
        return {name: mypy(*FILES, cwd=base / folder) for name, folder in folders.items()}

    def by_pyright() -> Findings:
        files = [f"{folder}/{file}" for folder in folders.values() for file in FILES]
        roots = [{"root": folder} for folder in folders.values()]
        return pyright(*files, cwd=base, config={**STRICT, "executionEnvironments": roots})

    with ThreadPoolExecutor() as pool:
        meanwhile = pool.submit(by_pyright)
        of_mypy = by_mypy()
        in_all = meanwhile.result()
    of_pyright: dict[str, Findings] = {
        name: {file: in_all[f"{folder}/{file}"] for file in FILES if f"{folder}/{file}" in in_all}
        for name, folder in folders.items()
    }
    return {"mypy": of_mypy, "pyright": of_pyright}


@pytest.mark.slow
@pytest.mark.timeout(300)  # both checkers, on every copy
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_whole_copy_passes(broken: dict[str, dict[str, Findings]], checker: str) -> None:
    assert broken[checker][""] == {}


@pytest.mark.slow
@pytest.mark.timeout(300)  # both checkers, on every copy
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_api_fails(broken: dict[str, dict[str, Findings]], name: str, checker: str) -> None:
    assert {*broken[checker][name]} & {*FILES}
