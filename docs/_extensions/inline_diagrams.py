"""Sphinx extension: a diagram that a page shows becomes a part of it, in its colours, with its text as text.

Pages show one as an image, so that it is seen on GitHub too.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class InlineDiagrams(SphinxPostTransform):
    """Replaces the images of ``diagrams/`` by what is in their files."""

    default_priority = 5  # before Sphinx copies images
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace those of one page."""
        for image in [*self.document.findall(nodes.image)]:
            file = Path(self.app.srcdir) / image["uri"]
            if file.parent.name == "diagrams" and file.suffix == ".svg" and file.is_file():
                # It scrolls where a screen is too small for its text.
                html = f'<div class="diagram" style="overflow-x: auto" tabindex="0">{file.read_text()}</div>'
                image.replace_self(nodes.raw("", html, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register it."""
    app.add_post_transform(InlineDiagrams)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
