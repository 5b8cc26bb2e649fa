"""The site: `make docs` builds it, strictly, and without a network."""

import os
import sys
from pathlib import Path

from sigra_workers import __version__

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["COLUMNS"] = "90"  # how wide argparse makes the usage of a command

project = "sigra-workers"
author = "The sigra-workers authors"
copyright = author
release = version = __version__

extensions = [
    "docs._extensions.inline_diagrams",
    "docs._extensions.links",
    "myst_parser",
    "docs._extensions.reference",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
exclude_patterns = ["code", "diagrams"]
nitpicky = True
# The names of others are not looked up: that would need a network.
nitpick_ignore_regex = [("py:.*", r"(?!sigra_workers)(.*\.)?[\w.]+")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# Docstrings are read in an editor first: what stands in single backticks there is code.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 150  # with the modules of the types, which are not shown
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
pygments_dark_style = "github-dark"  # furo's own underlines names, as if they were links
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"
