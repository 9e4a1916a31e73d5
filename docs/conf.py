"""The documentation site: `make docs` builds it with Sphinx, MyST and furo; every warning is an error."""

from __future__ import annotations

import os
import re
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

from docutils import nodes  # type: ignore[import-untyped]  # its types are a package of their own
from sphinx.util.docutils import SphinxDirective
from typer.testing import CliRunner

from concur_agents.cli.app import app as commands

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "concur-agents"
author = "the authors of concur-agents"
version = release = version_of("concur-agents")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # as GitHub makes them: both readers follow the same links

html_theme = "furo"
html_title = "concur-agents"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
smartquotes = False  # messages are quoted as they are
highlight_language = "none"  # a block that says no language is text
html_copy_source = False

default_role = "code"  # docstrings write code in single backticks, as the pages do
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a dataclass's fields are described once, by its docstring
napoleon_use_rtype = False

_FENCE = re.compile(r"^( *)```\w*$")


def fences_to_blocks(_app: Sphinx, _what: str, _name: str, _object: object, _options: Any, lines: list[str]) -> None:
    """Docstrings fence code as Markdown does; autodoc reads reStructuredText."""
    inside = False
    for at, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence:
            inside = not inside
            lines[at] = f"{fence[1]}.. code-block:: python" if inside else ""
            if inside:
                lines[at] += "\n"
        elif inside and line:
            lines[at] = f"    {line}"
    lines[:] = "\n".join(lines).split("\n")


def whole_sentences(_app: Sphinx, what: str, _name: str, _object: object, _options: Any, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon in a property's docstring for its type: put them together again."""
    types = [line for line in lines if line.startswith(":type: ")] if what == "property" else []
    if types:
        said = [line for line in lines if line not in types]
        lines[:] = [f"{types[0].removeprefix(':type: ')}: {said[0]}", *said[1:]]


def dashes(_app: Sphinx, doctree: nodes.document, _docname: str) -> None:
    """Fields of docstrings are written with two hyphens, which only smart quotes would make a dash."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


class CommandHelp(SphinxDirective):
    """What `concur COMMAND --help` prints, 80 columns wide."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The help as a block of text."""
        command = [] if self.arguments[0] == "concur" else self.arguments[0].split()
        os.environ["COLUMNS"] = "80"
        result = CliRunner().invoke(commands, [*command, "--help"], prog_name="concur")
        if result.exit_code:
            raise self.error(f"`concur {self.arguments[0]} --help` fails: {result.output}")
        return [nodes.literal_block(result.stdout, result.stdout, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls it."""
    app.connect("autodoc-process-docstring", fences_to_blocks, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", whole_sentences, priority=600)  # after it
    app.connect("doctree-resolved", dashes)
    app.add_directive("concur-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
