"""Whatever code a page shows is run by a test: blocks.py says how a test claims it."""

import importlib
import re
from pathlib import Path

import pytest
from tests.docs import blocks

TESTS = [
    test
    for folder in ("tests", "adapters/*/tests", "examples/*/tests")
    for found in blocks.ROOT.glob(folder)
    for test in found.rglob("*.py")
    if "from tests.docs.blocks import" in test.read_text()
]
PAGES = [*blocks.pages()]


@pytest.fixture(scope="module", autouse=True)
def _claims() -> None:
    for test in TESTS:
        importlib.import_module(".".join(test.relative_to(blocks.ROOT).with_suffix("").parts))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_by_a_test(page: str) -> None:
    found = [block for block in blocks.blocks_of(page) if not blocks.is_claimed(block)]
    assert [block.place for block in found if block.language != "text"] == []


@pytest.mark.parametrize("page", PAGES)
def test_text_that_nobody_runs_holds_no_command(page: str) -> None:
    found = [block for block in blocks.blocks_of(page) if not blocks.is_claimed(block)]
    text = [block for block in found if block.language == "text"]
    assert [block.place for block in text if re.search(r"^\$ ", block.text, re.MULTILINE)] == []


@pytest.mark.parametrize("page", PAGES)
def test_code_stands_in_plain_fences(page: str) -> None:
    names = ("code", "code-block", "code-cell", "sourcecode", "parsed-literal")
    assert [found.line for name in names for found in blocks.directives(page, name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_included_file_is_run_by_a_test(page: str) -> None:
    for found in blocks.directives(page, "literalinclude"):
        assert found.target.is_file(), found
        assert blocks.is_run(found.target), found


def test_every_file_of_code_is_run_by_a_test() -> None:
    files = [file for file in (blocks.DOCS / "code").rglob("*.*") if "__pycache__" not in file.parts]
    assert [file for file in files if not blocks.is_run(file)] == []


def test_a_page_is_read_as_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "DOCS", tmp_path)
    (tmp_path / "page.md").write_text(
        """\
````{note}
:class: tip
```python
# app/jobs.py
x = 1
```
````
:::{tip}
```
unknown
```
:::
```{literalinclude} ../code/a.py
:language: python
```
1. In a list:
   ~~~sh
   if true; then
     cat <<END
```
END
   fi
   ~~~
"""
    )
    found = [(block.line, block.language, block.text, block.file) for block in blocks.blocks_of("page.md")]
    assert found == [
        (3, "python", "# app/jobs.py\nx = 1\n", "app/jobs.py"),
        (9, "", "unknown\n", None),
        (17, "sh", "if true; then\n  cat <<END\n```\nEND\nfi\n", None),
    ]
    assert [found.argument for found in blocks.directives("page.md", "literalinclude")] == ["../code/a.py"]
    (run,) = blocks.blocks("page.md", "sh", having="fi")
    assert [block for block in blocks.blocks_of("page.md") if blocks.is_claimed(block)] == [run]
