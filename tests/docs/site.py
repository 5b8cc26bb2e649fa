"""The site as `make docs` builds it: what it has a place for, and what stands on its pages."""

import pickle
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Final

from docutils import nodes
from sphinx.util.inventory import InventoryFile
from tests.docs.blocks import DOCS, ROOT

FLAGS: Final = ("-E", "-W", "--keep-going", "-q")
HISTORY: Final = "changelog"
"""The page that speaks of what was."""


class Site:
    """What was built into a folder."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "sphinx", *FLAGS, str(DOCS), str(folder)]
        built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        self.folder = folder
        self.complaints = built.stderr
        self.places = dict(InventoryFile.loads((folder / "objects.inv").read_bytes(), uri="").data)

    @property
    def names(self) -> set[str]:
        """Every Python name that has a place."""
        return {name for kind in self.places if kind.startswith("py:") for name in self.of(kind)}

    def of(self, kind: str) -> list[str]:
        """Every name of a kind that has a place, in the order of the alphabet."""
        return sorted(self.places.get(kind, {}))

    def page(self, name: str) -> nodes.document:
        """A page as it was read."""
        with (self.folder / ".doctrees" / f"{name}.doctree").open("rb") as file:
            document = pickle.load(file)
        assert isinstance(document, nodes.document)
        return document

    @cached_property
    def spans(self) -> list[tuple[str, str]]:
        """What stands in code spans on the pages, docstrings included, each with its page."""
        trees = self.folder / ".doctrees"
        names = [str(file.relative_to(trees).with_suffix("")) for file in sorted(trees.rglob("*.doctree"))]
        return [
            (name, " ".join(span.astext().split()))
            for name in names
            if name != HISTORY
            for span in self.page(name).findall(nodes.literal)
        ]

    def first_cells(self, name: str) -> set[str]:
        """The code spans in the first column of a page's tables."""
        rows = self.page(name).findall(nodes.row)
        cells = (cell for row in rows if isinstance(cell := row.children[0], nodes.entry))
        return {span.astext() for cell in cells for span in cell.findall(nodes.literal)}


class Changed(Site):
    """A site with one name less, or with one code span more."""

    def __init__(self, site: Site, *, lacks: str = "", says: str = "") -> None:
        self.folder = site.folder
        self.complaints = site.complaints
        self.places = {
            kind: {name: place for name, place in found.items() if name != lacks}
            for kind, found in site.places.items()
        }
        self.spans = [("index", says), *site.spans] if says else site.spans
        self._lacks = lacks

    def first_cells(self, name: str) -> set[str]:
        return super().first_cells(name) - {self._lacks}
