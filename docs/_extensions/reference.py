"""Sphinx extension: the parts of the reference that are in no docstring.

``.. command:: dead list`` is a command of sigra-workers, as its parser has it; ``.. rules::`` lists the rules
of the conformance kit, each of which ``.. rule::`` makes a place that can be looked up.
"""

import argparse
import sys
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from sigra_workers.cli import make_parser
from sigra_workers.conformance import AdapterConformance

PROGRAM = "sigra-workers"
_COMMANDS = argparse._SubParsersAction


class Command(SphinxDirective):
    """A command, or with no argument the program: its usage, options and arguments."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        words = self.arguments[0].split() if self.arguments else []
        return self.parse_text_to_nodes("\n".join(_command(words)))


class Rules(SphinxDirective):
    """The rules of the conformance kit."""

    def run(self) -> list[nodes.Node]:
        listed = (
            f".. rule:: R{found.number:02}\n\n   {found.statement}\n" for found in AdapterConformance.rules()
        )
        return self.parse_text_to_nodes("\n".join(listed))


def parser_of(words: list[str]) -> argparse.ArgumentParser:
    """The parser of a command."""
    parser = make_parser()
    for word in words:
        parser = commands_of(parser)[word]
    return parser


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below it, by their names."""
    found = (action for action in parser._actions if isinstance(action, _COMMANDS))
    return {name: command for action in found for name, command in action.choices.items()}


def _summary(words: list[str]) -> str:
    """What the list of commands says of one."""
    if not words:
        return ""
    found = (action for action in parser_of(words[:-1])._actions if isinstance(action, _COMMANDS))
    (told,) = (str(one.help) for action in found for one in action._choices_actions if one.dest == words[-1])
    return f"{told[0].upper()}{told[1:]}."


def _command(words: list[str]) -> Iterator[str]:
    parser = parser_of(words)
    yield f".. program:: {' '.join([PROGRAM, *words])}\n"
    yield ".. code-block:: text\n"
    yield from (f"   {line}" for line in parser.format_usage().splitlines())
    yield ""
    for text in (_summary(words), parser.description, parser.epilog):
        yield f"{text or ''}\n"
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, _COMMANDS)):
            continue
        names = action.option_strings or [str(action.metavar or action.dest)]
        value = "" if action.nargs == 0 or not action.option_strings else f" {_value(action)}"
        yield f".. option:: {', '.join(name + value for name in names)}\n"
        yield f"   {(action.help or '') % {'default': action.default}}\n"


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _data_docstring(
    app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]
) -> None:
    """What is re-exported and has no docstring of its own, as an alias, is described where it is defined."""
    package, _, own = name.rpartition(".")
    if what != "data" or ModuleAnalyzer.for_module(package).find_attr_docs().get(("", own)):
        return
    for module in [loaded for loaded in sys.modules if loaded.startswith(f"{package}.")]:
        if told := ModuleAnalyzer.for_module(module).find_attr_docs().get(("", own)):
            lines[:] = told
            return
    lines.clear()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register it."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _data_docstring)
    app.add_directive("command", Command)
    app.add_directive("rules", Rules)
    app.add_object_type("rule", "rule", objname="conformance rule")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
