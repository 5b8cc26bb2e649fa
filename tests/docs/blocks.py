"""The code of the pages, for the tests that run it; nothing is shown that no test runs.

A test file takes what its page shows when it is imported, and thereby claims it::

    from tests.docs.blocks import blocks, code

    PYTHON = blocks("how-to/rq.md", "python")          # those of one language, in the page's order
    (UNIT,) = blocks("how-to/rq.md", "ini")            # a block has .text, .language, .line, .file
    SQL = blocks("how-to/rq.md", "sql", having="GRANT")  # those with a part
    CODE = code("docs/code/rq")                        # a folder, whose files the page includes

Take them at the top of a module, never in a test, and run all that you take: a claim is a promise.
`tests/docs/test_blocks.py` imports whatever imports this module, and fails for

- a fenced block that nobody claims, unless it is `text` (what a program prints, no command in it);
- a fenced block without a language, and a `{code-block}`: write plain fences;
- a `{literalinclude}` of a file that isn't there, or lies in no folder that is claimed;
- a file below docs/code/ that lies in no folder that is claimed.

Pages are named by their path below docs/, README.md by itself, and an adapter's, which a page of the
reference includes, by its path here: adapters/rq/README.md.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
README: Final = "README.md"

_FENCE: Final = re.compile(r"^( *)(`{3,}|~{3,}|:{3,}) *(.*?) *$")
_DIRECTIVE: Final = re.compile(r"^\{([\w:-]+)\} *(.*)$")
_NAMED: Final = re.compile(r"(?:#|--|//) (\S+\.\w+|Dockerfile|Procfile)\b")
_claimed: Final[set[tuple[str, int]]] = set()
_folders: Final[set[Path]] = set()


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page; `language` is what stands behind the fence, `line` that of its fence."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is, where its first line is a comment that begins with one."""
        named = _NAMED.match(self.text)
        return named[1] if named else None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def path(page: str) -> Path:
    """Where the page lies."""
    return (ROOT if page == README or page.startswith("adapters/") else DOCS) / page


def blocks(page: str, *languages: str, having: str = "") -> list[Block]:
    """The page's blocks of these languages, of any where none is given, with that part; they are claimed."""
    found = [
        block
        for block in blocks_of(page)
        if (not languages or block.language in languages) and having in block.text
    ]
    _claimed.update((block.page, block.line) for block in found)
    return found


def texts(page: str, *languages: str, having: str = "") -> list[str]:
    """The same, as texts."""
    return [block.text for block in blocks(page, *languages, having=having)]


def code(folder: str) -> Path:
    """A folder, by its path in the repository, whose files pages include; it is claimed."""
    found = ROOT / folder
    if not found.is_dir():
        raise FileNotFoundError(folder)
    _folders.add(found)
    return found


def is_claimed(block: Block) -> bool:
    return (block.page, block.line) in _claimed


def is_run(file: Path) -> bool:
    """Whether the file lies in a folder that is claimed."""
    return any(file.is_relative_to(folder) for folder in _folders)


def pages() -> Iterator[str]:
    """Every page, the READMEs too."""
    yield README
    yield from sorted(str(found.relative_to(ROOT)) for found in ROOT.glob("adapters/*/README.md"))
    yield from sorted(str(found.relative_to(DOCS)) for found in DOCS.rglob("*.md"))


def blocks_of(page: str) -> list[Block]:
    """The page's fenced blocks, those inside of directives too; nothing is claimed."""
    return [found for found in _parts(page) if isinstance(found, Block)]


@dataclass(frozen=True, slots=True)
class Directive:
    """The first line of a directive; what is inside of it is read as part of the page."""

    page: str
    line: int
    name: str
    argument: str

    @property
    def target(self) -> Path:
        """The file that a `{literalinclude}` names."""
        return (path(self.page).parent / self.argument).resolve()


def directives(page: str, name: str) -> list[Directive]:
    """The page's directives of that name."""
    return [found for found in _parts(page) if isinstance(found, Directive) and found.name == name]


def _parts(page: str) -> Iterator[Block | Directive]:
    """Blocks and directives in their order; a block's own fences are part of its text."""
    directives: list[str] = []  # the fences of those that are open
    numbered = enumerate(path(page).read_text().splitlines(), 1)
    for number, line in numbered:
        if not (fence := _FENCE.match(line)):
            continue
        indent, mark, info = fence.groups()
        if directive := _DIRECTIVE.match(info):
            directives.append(mark)
            yield Directive(page, number, *directive.groups())
        elif directives and not info and mark.startswith(directives[-1]):
            directives.pop()
        elif mark[0] != ":":
            inside: list[str] = []
            for _, inner in numbered:
                if inner.strip().startswith(mark) and not inner.strip().strip(mark[0]):
                    break
                inside.append(inner.removeprefix(indent) + "\n")
            yield Block(page, number, info, "".join(inside))
