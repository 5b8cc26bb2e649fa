"""Sphinx extension: links to what the repository has elsewhere, and from names in the text to the reference.

A page links as a reader of the repository would, to ``../../adapters/rq/README.md``: here that is the page
which includes it. A link out of docs/ to what is no page is an error.

What stands in a code span, and is a name of ours, is a link to its place in the reference, once a page.
"""

import pkgutil
import re
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from docs._extensions.names import Names, Place
from docutils import nodes
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

DOCS: Final = Path(__file__).parents[1]
ROOT: Final = DOCS.parent
PAGES: Final = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.md",
    "SECURITY.md": "security.md",
    "adapters/arq/README.md": "reference/arq.md",
    "adapters/dramatiq/README.md": "reference/dramatiq.md",
    "adapters/opentelemetry/README.md": "reference/opentelemetry.md",
    "adapters/rq/README.md": "reference/rq.md",
    "adapters/sqlalchemy/README.md": "reference/sqlalchemy.md",
    "examples/app": "examples.md",
    "examples/django": "examples.md",
    "examples/saas": "examples.md",
    "examples/saas/README.md": "examples.md",
    "examples/sigra-workers-toy": "examples.md",
}
"""Which page has what lies outside of docs/."""
_LINK: Final = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_CODE: Final = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_log: Final = logging.getLogger(__name__)


def relink(text: str, file: Path, page: str) -> str:
    """The text of a file, with its links as they are to be on the page."""

    def link(found: re.Match[str]) -> str:
        target, anchor = (file.parent / found[1]).resolve(), found[2] or ""
        if target.is_relative_to(DOCS):
            return f"](/{target.relative_to(DOCS)}{anchor})"
        name = str(target.relative_to(ROOT)) if target.is_relative_to(ROOT) else ""
        if name not in PAGES:
            _log.warning("%s is no page: %s", found[1], file, location=page)
            return found[0]
        return f"](/{PAGES[name]}{anchor})"

    written, at = "", 0
    for code in _CODE.finditer(text):
        written += _LINK.sub(link, text[at : code.start()]) + code[0]
        at = code.end()
    return written + _LINK.sub(link, text[at:])


def _source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = relink(source[0], app.env.doc2path(docname), docname)


def _include_read(app: Sphinx, path: Path, docname: str, source: list[str]) -> None:
    source[0] = relink(source[0], (DOCS / path).resolve(), docname)


class NameLinks(SphinxPostTransform):
    """Makes the names on a page links."""

    default_priority = 400
    formats = ("html",)

    def run(self, **_: Any) -> None:
        names = names_of(self.env)
        seen: set[str] = set()
        for literal in [*self.document.findall(nodes.literal)]:
            place = names.find(literal.astext())
            if place is None or place.name in seen or not _may_link(literal):
                continue
            if place.docname == self.env.docname and _is_in(literal, place.anchor):
                continue  # it would lead to where the reader is
            seen.add(place.name)
            inner = literal.deepcopy()
            builder, here = self.app.builder, self.env.docname
            literal.replace_self(make_refnode(builder, here, place.docname, place.anchor, inner, place.name))


@lru_cache(maxsize=1)
def names_of(env: BuildEnvironment) -> Names:
    """The names that the reference has a place for, once all pages are read."""
    python = env.domains.python_domain.get_objects()
    standard = env.domains.standard_domain.get_objects()
    ours = [*python, *(found for found in standard if found[2] in ("rule", "command"))]
    return Names(Place(name, kind, docname, anchor) for name, _, kind, docname, anchor, _ in ours)


def _may_link(literal: nodes.literal) -> bool:
    parent = literal.parent
    while parent is not None:
        if isinstance(parent, (nodes.reference, nodes.title, desc_signature, pending_xref)):
            return False
        parent = parent.parent
    return True


def _is_in(literal: nodes.literal, anchor: str) -> bool:
    parent = literal.parent
    while parent is not None:
        if isinstance(parent, nodes.Element) and any(
            anchor in child.get("ids", ()) for child in parent.children if isinstance(child, desc_signature)
        ):
            return True
        parent = parent.parent
    return False


def _missing(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """A name in a signature, by the module that it is defined in; a type variable stays as it is."""
    if node.get("refdomain") != "py":
        return None
    place = names_of(env).find(node["reftarget"])
    if place is not None:
        return make_refnode(app.builder, node["refdoc"], place.docname, place.anchor, text, place.name)
    return text if isinstance(_object(node["reftarget"]), (Enum, TypeVar)) else None


def _object(name: str) -> object:
    try:
        return pkgutil.resolve_name(name)
    except (AttributeError, ImportError, ValueError):
        return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register it."""
    app.connect("source-read", _source_read)
    app.connect("include-read", _include_read)
    app.connect("missing-reference", _missing)
    app.add_post_transform(NameLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
