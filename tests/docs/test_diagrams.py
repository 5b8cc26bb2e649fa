"""docs/diagrams/: readable in light and dark, told to those who can't see them, and true."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any, Final, get_args
from xml.etree import ElementTree

import grimp
import pytest
from tests.docs.blocks import DOCS, ROOT, code, pages, path

from sigra_workers import AuditScope, Cancel, Error, Ok, Snooze, TenantArgs, Workers, hookimpl
from sigra_workers.hooks import Decision
from sigra_workers.protocols import Outcome
from sigra_workers.testing import testing

CODE: Final = code("docs/code/explanation")
FILES: Final = sorted((DOCS / "diagrams").glob("*.svg"))
SVG: Final = "{http://www.w3.org/2000/svg}"
LINT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
PACKAGES: Final = [name for name in LINT["root_packages"] if not name.endswith("_toy")]
every_diagram = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def drawn(name: str) -> ElementTree.Element:
    return ElementTree.parse(DOCS / "diagrams" / f"{name}.svg").getroot()


def words(diagram: str, group: str) -> list[str]:
    """The texts of one group, in order."""
    (found,) = drawn(diagram).iterfind(f".//{SVG}g[@data-names='{group}']")
    return [text.text or "" for text in found.iter(f"{SVG}text")]


# -- for everybody -----------------------------------------------------------------------------------------


@every_diagram
def test_it_says_what_it_shows(file: Path) -> None:
    root = drawn(file.stem)
    title, description = root[0], root[1]
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"].split() == [title.attrib["id"], description.attrib["id"]]
    assert len(description.text or "") > len(title.text or "") > 10


@every_diagram
def test_inside_a_page_it_has_no_colour_of_its_own(file: Path) -> None:
    colours = {
        value
        for element in drawn(file.stem).iter()
        for name, value in element.attrib.items()
        if name in ("fill", "stroke", "color", "stop-color", "opacity", "fill-opacity")
    }
    assert colours == {"currentColor", "none"}


@every_diagram
def test_by_itself_it_can_be_read_in_light_and_dark(file: Path) -> None:
    (style,) = drawn(file.stem).iter(f"{SVG}style")
    rules = re.findall(
        r"svg:root \{ background: #(\w+); color: #(\w+) \}", re.sub(r"/\*.*\*/", "", style.text or "")
    )
    assert len(rules) == 2
    for background, colour in rules:
        lighter, darker = sorted((luminance(background), luminance(colour)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) > 7  # WCAG's AAA; AA is 4.5
    # A rule without svg:root would hold for the page that it is inside of.
    assert (style.text or "").count("{") == len(rules) + 1


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    doubled = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    parts = [int(doubled[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@every_diagram
def test_its_text_is_text_of_a_size_to_read(file: Path) -> None:
    root = drawn(file.stem)
    assert not [*root.iter(f"{SVG}image")]
    assert len([*root.iter(f"{SVG}text")]) > 10
    assert (
        min(float(element.attrib["font-size"]) for element in root.iter() if "font-size" in element.attrib)
        >= 12
    )


def test_no_two_share_an_id() -> None:
    ids = [
        element.attrib["id"]
        for file in FILES
        for element in drawn(file.stem).iter()
        if "id" in element.attrib
    ]
    assert len({*ids}) == len(ids) == 3 * len(FILES)


@every_diagram
def test_a_page_shows_it(file: Path) -> None:
    shown = [
        page
        for page in pages()
        if re.search(rf"!\[[^\]]{{20,}}\]\(\S*diagrams/{file.name}\)", path(page).read_text())
    ]
    assert len(shown) == 1


def test_the_site_has_them_inside_of_its_pages(tmp_path: Path) -> None:
    shutil.copytree(DOCS / "diagrams", tmp_path / "diagrams")
    (tmp_path / "conf.py").write_text("extensions = ['inline_diagrams']\n")
    images = [f".. image:: diagrams/{file.name}\n   :alt: {file.stem}\n" for file in FILES]
    (tmp_path / "index.rst").write_text("\n".join(["All", "===", *images]))
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", ".", "html"]
    path = {**os.environ, "PYTHONPATH": str(DOCS / "_extensions")}
    subprocess.run(command, cwd=tmp_path, env=path, check=True)
    page = (tmp_path / "html" / "index.html").read_text()
    assert "<img" not in page
    for file in FILES:
        assert (drawn(file.stem)[0].text or "nothing") in page


# -- a job's life ------------------------------------------------------------------------------------------


class Watcher:
    """Notes each decision as the hook is told of it."""

    def __init__(self) -> None:
        self.decisions: list[str | None] = []

    @hookimpl
    def sigra_finished(self, decision: str | None) -> None:
        self.decisions.append(decision)


def test_each_decision_becomes_the_outcome_that_is_drawn() -> None:
    drawing = {
        text.text: text.attrib["data-becomes"]
        for text in drawn("job-life").iter(f"{SVG}text")
        if "data-becomes" in text.attrib
    }
    watcher, results = (
        Watcher(),
        [Ok(), Error("no"), Error("no, on the last attempt"), Snooze(1), Cancel("no")],
    )
    workers = Workers[AuditScope](plugins=[watcher])
    handle: Any = workers.declare("some.where", TenantArgs)
    became = []
    for attempt, result in enumerate(results, 1):

        def perform(scope: AuditScope, args: TenantArgs, result: Any = result) -> Any:
            return result

        with testing(workers, replace={handle: Performer(perform)}) as sigra:
            last = result == results[2]
            payload = sigra.payload(
                handle,
                {"organization_id": 1, "actor_id": 1},
                attempt=attempt,
                max_attempts=attempt if last else 20,
            )
            became.append(type(sigra.perform_payload(payload)).__name__)
    assert dict(zip(watcher.decisions, became, strict=True)) == drawing
    assert {*drawing} == {*words("job-life", "decisions")} == {*get_args(Decision)}
    assert (
        {*drawing.values()} == {*words("job-life", "outcomes")} == {one.__name__ for one in get_args(Outcome)}
    )


class Performer:
    def __init__(self, perform: Any) -> None:
        self._perform = perform

    def perform(self, scope: AuditScope, args: TenantArgs) -> Any:
        return self._perform(scope, args)


def test_what_is_drawn_of_a_jobs_life_is_in_the_code() -> None:
    texts = [text.text or "" for text in drawn("job-life").iter(f"{SVG}text")]
    handle: Any = Workers[AuditScope]().declare("some.where", TenantArgs)
    for name in ("new", "enqueue"):
        assert name in texts
        assert callable(getattr(handle, name))


# -- who imports whom --------------------------------------------------------------------------------------


def test_the_imports_that_are_drawn_are_those_there_are() -> None:
    arrows = [
        path.attrib["data-imports"].split() for path in drawn("imports").iterfind(".//*[@data-imports]")
    ]
    modules = {*words("imports", "modules")}
    libraries = {*chain.from_iterable(text.split(", ") for text in words("imports", "libraries"))}
    assert {*chain.from_iterable(arrows)} == modules | libraries
    assert {name for name in modules if name.startswith("sigra_workers")} == {*PACKAGES}
    real = {(importer, name) for importer, names in imports(modules).items() for name in names}
    assert {(importer, name) for importer, *names in arrows for name in names} == real


def imports(modules: set[str]) -> dict[str, set[str]]:
    """Who imports whom: of the packages everything but the standard library and what tests need."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True)
    found: dict[str, set[str]] = {}
    for module in modules:
        if module in PACKAGES:
            parts = (module, *graph.find_descendants(module))
            names = {*chain.from_iterable(map(graph.find_modules_directly_imported_by, parts))}
            ignored = {module, "pytest", "_pytest", *sys.stdlib_module_names}
            found[module] = {name.partition(".")[0] for name in names} - ignored
        else:
            tree = ast.parse((ROOT / "examples" / f"{module.replace('.', '/')}.py").read_text())
            aliases = [node.names for node in ast.walk(tree) if isinstance(node, ast.Import)]
            names = {alias.name for alias in chain.from_iterable(aliases)}
            names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            found[module] = names & modules
    return found


# -- who is who --------------------------------------------------------------------------------------------


def test_the_ids_go_the_way_that_is_drawn() -> None:
    ran = runpy.run_path(str(CODE / "impersonation.py"))
    stages = {"request": ran["request"], "args": ran["args"], "scope": ran["scope"], "event": ran["event"]}
    for stage, found in stages.items():
        texts = words("who-is-who", stage)
        shown = dict(zip(texts[::2], texts[1::2], strict=True))
        assert len(shown) == 3
        for name, value in shown.items():
            assert read(found, name) == value


def read(found: Any, name: str) -> object:
    for part in name.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found
