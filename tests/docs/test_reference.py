"""The reference has a place for all that is public, and no page names what is not."""

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from docs._extensions.names import OBJECTS, PACKAGES
from docs._extensions.reference import commands_of, parser_of
from tests.docs import words
from tests.docs.blocks import ROOT, texts
from tests.docs.site import FLAGS, Changed, Site

import sigra_workers
import sigra_workers.testing
from sigra_workers import (
    Audit,
    AuditScope,
    JobOptions,
    OrganizationArgs,
    TenantArgs,
    WorkerOptions,
    Workers,
    WorkersOptions,
    errors,
    hooks,
)
from sigra_workers.conformance import AdapterConformance
from sigra_workers.jobs import Payload
from sigra_workers.testing import testing
from sigra_workers_arq import adapter as arq
from sigra_workers_dramatiq import connect as dramatiq
from sigra_workers_rq import adapter as rq

pytestmark = pytest.mark.timeout(600)

(WIRE,) = texts("reference/jobs.md", "json")
EXPORTING: Final = [name for name in PACKAGES if hasattr(importlib.import_module(name), "__all__")]
OPTIONS: Final = [
    (package, name)
    for package in (sigra_workers, sigra_workers.testing)
    for name in package.__all__
    if hasattr(getattr(package, name), "__required_keys__")
]
SETTINGS: Final = {"arq": arq._SETTINGS, "dramatiq": dramatiq._SETTINGS, "rq": rq._SETTINGS}
ECS: Final = {"sigra.job", "sigra.metadata"}
"""Fields of a line in the log, and no attributes."""
HOOKS: Final[list[str]] = [
    name for name, found in vars(hooks).items() if hasattr(found, "sigra_workers_spec")
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


def commands(*words: str) -> Iterator[tuple[str, ...]]:
    """The commands that have no commands below them."""
    below = commands_of(parser_of([*words]))
    if not below:
        yield words
    for word in below:
        yield from commands(*words, word)


def test_the_site_is_built_without_a_complaint(site: Site) -> None:
    assert site.complaints == ""
    assert " ".join(["-m", "sphinx", *FLAGS, "docs"]) in (ROOT / "Makefile").read_text()


# -- all that is public has a place --------------------------------------------------------------------------


def test_every_package_is_looked_at() -> None:
    assert {found.name for found in ROOT.glob("adapters/*/src/*") if (found / "py.typed").exists()} <= {
        *EXPORTING
    }


@pytest.mark.parametrize("package", EXPORTING)
def test_what_a_package_exports_has_a_place(site: Site, package: str) -> None:
    exported = {*importlib.import_module(package).__all__} - {"__version__"}
    assert {f"{package}.{name}" for name in exported} - site.names == set()


def test_every_error_has_a_place(site: Site) -> None:
    found = [
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert len(found) > 20
    assert {f"sigra_workers.{name}" for name in found} - {*site.of("py:exception")} == set()


def test_every_hook_has_a_place(site: Site) -> None:
    assert {f"sigra_workers.hooks.{name}" for name in HOOKS} - {*site.of("py:function")} == set()


@pytest.mark.parametrize(("package", "name"), OPTIONS, ids=lambda found: getattr(found, "__name__", found))
def test_every_option_has_a_place(site: Site, package: ModuleType, name: str) -> None:
    keys = {f"{package.__name__}.{name}.{key}" for key in getattr(package, name).__annotations__}
    assert keys
    assert keys - site.names == set()


def test_the_options_at_a_glance_are_all_that_there_are(site: Site) -> None:
    kinds = (WorkersOptions, WorkerOptions, JobOptions)
    named = {name for kind in kinds for name in kind.__annotations__} | {"scope_builder", "on_duplicate"}
    assert named ^ site.first_cells("reference/options") == set()


@pytest.mark.parametrize("adapter", SETTINGS)
def test_every_setting_of_an_adapter_has_a_place(site: Site, adapter: str) -> None:
    assert {*SETTINGS[adapter]} - site.first_cells(f"reference/{adapter}") == set()


def test_every_field_of_the_wire_form_has_a_place(site: Site) -> None:
    fields = {*Payload.__dataclass_fields__} - {"args_or_json", "unknown"} | {"v", "args"}
    assert fields - site.first_cells("reference/jobs") == set()


def test_every_rule_has_a_place(site: Site) -> None:
    assert site.of("std:rule") == [f"R{rule.number:02}" for rule in AdapterConformance.rules()]


def test_every_command_and_each_of_its_options_has_a_place(site: Site) -> None:
    expected = {
        f"sigra-workers-{'-'.join(words)}.{name}"
        for words in commands()
        for action in parser_of([*words])._actions
        for name in action.option_strings or [str(action.metavar or action.dest)]
        if name not in ("-h", "--help")
    }
    assert len(expected) > 50
    assert expected - {*site.of("std:cmdoption")} == set()


def test_what_adapters_take_from_the_core_has_a_place(site: Site) -> None:
    taken = {
        f"{node.module}.{name.name}"
        for file in ROOT.glob("adapters/*/src/**/*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sigra_workers.")
        for name in node.names
    }
    assert len(taken) > 20
    own = {name for name in taken if name.rpartition(".")[2].isupper()}
    assert {name for name in taken - own if not name.startswith("sigra_workers.demo.")} - site.names == set()


# -- what a page names is there ------------------------------------------------------------------------------


def wrong(site: Site, is_wrong: Callable[[str], object]) -> list[tuple[str, str]]:
    """The code spans of which it is true, each with its page."""
    return [(page, span) for page, span in site.spans if is_wrong(span)]


def test_every_word_in_code_is_a_word_of_some_code(site: Site) -> None:
    known = words.known() | words.OTHERS
    found = wrong(site, lambda span: {*words.words(span)} - known)
    assert [(page, span) for page, span in found if page != "contributing"] == []  # which speaks of tests


def test_the_words_of_others_are_none_of_ours_and_are_needed(site: Site) -> None:
    used = {word for _, span in site.spans for word in words.words(span)}
    assert words.OTHERS - used == set()
    assert words.OTHERS & words.known() == set()


def test_every_module_and_hook_on_a_page_is_there(site: Site) -> None:
    told = words.strings(ROOT / "src") | words.strings(ROOT / "adapters")  # such as loggers

    def is_wrong(span: str) -> bool:
        names = re.findall(r"(?<![\w.-])sigra_\w[\w.]*(?::\w+)?", span)
        return any(name not in told and not is_there(name) for name in names)

    assert wrong(site, is_wrong) == []


def test_every_rule_on_a_page_is_one(site: Site) -> None:
    rules = {f"R{rule.number:02}" for rule in AdapterConformance.rules()}
    assert wrong(site, lambda span: re.fullmatch(r"R\d+", span) and span not in rules) == []


def test_what_a_page_says_of_our_objects_is_an_attribute_of_them(site: Site) -> None:
    told = words.strings(ROOT / "src") | words.strings(ROOT / "adapters")
    workers = Workers[AuditScope]()
    with testing(workers) as sigra:
        ours = {
            "audit": Audit(),
            "handle": workers.declare("a", OrganizationArgs),
            "sigra": sigra,
            "workers": workers,
        }

    def is_wrong(span: str) -> bool:
        named = re.fullmatch(rf"(?:await )?({'|'.join(ours)})\.(\w+)(\(.*\))?", span)
        return named is not None and span not in told | ECS and not hasattr(ours[named[1]], named[2])

    assert {*ours} == {*OBJECTS}
    assert wrong(site, is_wrong) == []


def test_every_command_on_a_page_is_one(site: Site) -> None:
    def is_wrong(span: str) -> bool:
        return span.startswith("sigra-workers ") and any(problems_of(span.split()[1:]))

    assert wrong(site, is_wrong) == []


def test_every_target_of_make_on_a_page_is_one(site: Site) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "demo" in targets
    assert wrong(site, lambda span: span.startswith("make ") and span.split()[1] not in targets) == []


def test_every_file_of_the_repository_on_a_page_is_there(site: Site) -> None:
    folders = [found.name for found in ROOT.iterdir() if found.is_dir() and found.name[0] != "."]
    assert {"adapters", "docs", "examples"} <= {*folders}

    def is_wrong(span: str) -> bool:
        path = span.partition("#")[0].replace("<queue>", "*")
        named = re.fullmatch(rf"(?:{'|'.join(folders)})/[\w*./-]+", path)
        return named is not None and not any(ROOT.glob(path))

    assert wrong(site, is_wrong) == []


def is_there(name: str) -> bool:
    """Whether it is a module or distribution of ours, something in one, or a hook."""
    if name in HOOKS:
        return True
    module, _, own = name.replace(":", ".").rpartition(".")
    if (spec := find(module)) is None:  # it may be of a class
        try:
            return pkgutil.resolve_name(name) is not None
        except (AttributeError, ImportError, ValueError):
            return False
    # Not imported: it may want the environment of a worker process.
    if spec.origin is not None and own in words.of(Path(spec.origin)):
        return True
    return spec.submodule_search_locations is not None and find(f"{module}.{own}") is not None


def find(module: str) -> ModuleSpec | None:
    try:
        return find_spec(module)
    except (ImportError, ValueError):
        return None


def problems_of(line: list[str]) -> Iterator[str]:
    """What is wrong with a command line, of which arguments may be left out."""
    parser = parser_of([])
    while (below := commands_of(parser)) and line:
        word = line.pop(0)
        if word not in below:
            yield f"there is no command {word!r}"
            return
        parser = below[word]
    known = {name for action in parser._actions for name in action.option_strings}
    yield from (f"there is no option {word!r}" for word in line if word.startswith("-") and word not in known)


# -- each of these checks finds something --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "arguments", "name"),
    [
        (test_what_a_package_exports_has_a_place, ["sigra_workers_rq"], "sigra_workers_rq.boot"),
        (test_every_error_has_a_place, [], "sigra_workers.DuplicateJobError"),
        (test_every_hook_has_a_place, [], "sigra_workers.hooks.sigra_dead"),
        (test_every_option_has_a_place, [sigra_workers, "JobOptions"], "sigra_workers.JobOptions.backoff"),
        (test_the_options_at_a_glance_are_all_that_there_are, [], "native"),
        (test_every_setting_of_an_adapter_has_a_place, ["rq"], "serializer"),
        (test_every_field_of_the_wire_form_has_a_place, [], "resends"),
        (test_every_rule_has_a_place, [], "R07"),
        (test_every_command_and_each_of_its_options_has_a_place, [], "sigra-workers-dead-purge.--yes"),
        (test_what_adapters_take_from_the_core_has_a_place, [], "sigra_workers.store.Store"),
    ],
)
def test_a_check_misses_what_has_no_place(
    site: Site, check: Callable[..., None], arguments: list[object], name: str
) -> None:
    check(site, *arguments)
    with pytest.raises(AssertionError, match=re.escape(name.rpartition("-")[2])):
        check(Changed(site, lacks=name), *arguments)


@pytest.mark.parametrize(
    ("check", "span"),
    [
        (test_every_word_in_code_is_a_word_of_some_code, "workers.enqueu(job)"),
        (test_every_module_and_hook_on_a_page_is_there, "sigra_workers.audit.Autid"),
        (test_every_module_and_hook_on_a_page_is_there, "sigra_started_late"),
        (test_every_rule_on_a_page_is_one, "R99"),
        (test_what_a_page_says_of_our_objects_is_an_attribute_of_them, "handle.perform()"),
        (test_every_command_on_a_page_is_one, "sigra-workers dead lst"),
        (test_every_command_on_a_page_is_one, "sigra-workers dead list --organisation acme"),
        (test_every_target_of_make_on_a_page_is_one, "make tests"),
        (test_every_file_of_the_repository_on_a_page_is_there, "examples/app/job.py"),
    ],
)
def test_a_check_finds_what_is_not_there(site: Site, check: Callable[..., None], span: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(span)):
        check(Changed(site, says=span))


# -- the wire form -------------------------------------------------------------------------------------------


def test_the_wire_form_is_that_of_a_job() -> None:
    close = Workers[AuditScope]().declare("accounts.close", TenantArgs)
    job = close.new({"organization_id": None, "actor_id": None}, job_id="job-1")
    assert json.loads(WIRE) == json.loads(job.payload(1_800_000_000.0).dump())
