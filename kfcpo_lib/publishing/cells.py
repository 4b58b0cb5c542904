"""A notebook's cells as HTML, by nbconvert: formulas as MathML, pictures with their alt text."""

import copy
import functools
import re
from pathlib import Path
from typing import Any

from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from kfcpo_lib.publishing.mathml import to_mathml

TEMPLATES = Path(__file__).parent / "templates"
CODE_STYLE = "xcode"
WIDGET = "application/vnd.jupyter.widget-view+json"
INSTEAD_OF_WIDGET = (
    '<p class="controls">In the notebook there are sliders here. '
    "The picture beside shows one of their positions.</p>"
)


_IN_HTML = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$")  # Jupyter sets formulas in HTML, too


def _formula(found: re.Match[str]) -> str:
    return to_mathml(found[1] or found[2], display=found[1] is not None)


class _Markdown(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return to_mathml(body, display=False)

    def block_math(self, body: str) -> str:
        return to_mathml(body, display=True)

    def block_html(self, html: str) -> str:
        return str(super().block_html(_IN_HTML.sub(_formula, html)))

    def latex_environment(self, name: str, body: str) -> str:
        return to_mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)


def markdown_to_html(source: str) -> str:
    """A Markdown text as in a notebook's cell, headings with anchors."""
    return str(MarkdownWithMath(renderer=_Markdown(escape=False)).render(source))


def cells_to_html(notebook: Any, template: str = "cells") -> str:
    """All cells, in the frame that a template of this package gives them."""
    shown = _without_widgets(notebook)
    if template == "cells":  # what is skipped on slides belongs to the page
        for cell in shown.cells:
            cell.metadata.pop("slideshow", None)
    body, _ = _exporter(template).from_notebook_node(shown)
    return str(body)


@functools.cache
def _exporter(template: str) -> HTMLExporter:
    exporter = HTMLExporter(
        template_name=template,
        extra_template_basedirs=[str(TEMPLATES)],
        extra_template_paths=[str(TEMPLATES)],
    )
    exporter.register_filter("markdown2html", markdown_to_html)
    return exporter


def _without_widgets(notebook: Any) -> Any:
    notebook = copy.deepcopy(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for output in outputs:
        if WIDGET in output.get("data", {}):
            output.data = {"text/html": INSTEAD_OF_WIDGET}
    return notebook


def code_css() -> str:
    """Colours of the code; all stand out from the background (tests measure it)."""
    return str(HtmlFormatter(style=CODE_STYLE).get_style_defs(".highlight")) + "\n"
