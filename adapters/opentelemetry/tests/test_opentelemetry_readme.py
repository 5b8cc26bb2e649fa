"""The README: its code, run as it stands there, and its tables."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, get_args

from opentelemetry.metrics import get_meter
from tests.docs.blocks import path, texts

from sigra_workers import Decision
from sigra_workers_opentelemetry import OpenTelemetry, names, plugin
from sigra_workers_opentelemetry.instruments import Instruments

PAGE: Final = "adapters/opentelemetry/README.md"
README: Final = path(PAGE).read_text()
BLOCKS: Final = texts(PAGE, "python")


def section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_its_code_runs(tmp_path: Path) -> None:
    program = "\n\n".join(["REDIS_URL = 'redis://localhost:6379/0'", *BLOCKS, "Export()"])
    command = [sys.executable, "-W", "error", "-c", program]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_it_lists_every_option() -> None:
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", README.partition("## Spans")[0], re.MULTILINE)
    told = {name: default for names_, default in rows for name in re.findall(r"`(\w+)`", names_)}
    options = inspect.signature(OpenTelemetry).parameters.values()
    assert sorted(told) == sorted(option.name for option in options)
    for option in options:
        if option.default is not None:
            assert told[option.name] == f"`{option.default}`"


def test_it_lists_every_attribute_and_no_other() -> None:
    told = {*re.findall(r"`((?:messaging|sigra|error)\.[\w.]+)`", section("Spans") + section("Metrics"))}
    every = {value for name, value in vars(names).items() if name.isupper() and name != "SCHEMA_URL"}
    assert told == {name for name in every if not name.startswith("exception.")}


def test_it_lists_every_metric_with_its_kind_and_unit() -> None:
    rows = re.findall(r"^\| `([\w.]+)`.*? \| (counter|histogram, s) \|", section("Metrics"), re.MULTILINE)
    made: list[Any] = [*vars(Instruments(get_meter("test"))).values()]
    found = {each._name: "counter" if hasattr(each, "add") else f"histogram, {each._unit}" for each in made}
    assert dict(rows) == found


def test_it_names_every_decision() -> None:
    (row,) = (line for line in section("Spans").splitlines() if line.startswith("| `sigra.decision`"))
    assert re.findall(r"`(\w+)`", row) == [*get_args(Decision), plugin.STOPPED]
