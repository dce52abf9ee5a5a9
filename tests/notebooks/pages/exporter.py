"""nbconvert's HTML with our own template: maths as MathML, and nothing that a page would fetch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from math_core import LatexError, LatexToMathML
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from difftuning.lessons.page_frames import EXPLORER
from difftuning.lessons.predictions import PREDICTION
from tests.notebooks.pages.lessons import NOTEBOOKS
from tests.notebooks.pages.prepare import NOTE

TEMPLATES = Path(__file__).parent / "templates"
CODE_STYLES = {"light": "xcode", "dark": "lightbulb"}  # of Pygments: the two whose colours all have a contrast of 4.5 on ours


class Renderer(IPythonRenderer):
    """Markdown to HTML, formulas included."""

    def inline_math(self, body: str) -> str:
        return mathml(body, display=False)

    def block_math(self, body: str) -> str:
        return mathml(body, display=True)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)


class PageExporter(HTMLExporter):
    def __init__(self, **settings: Any):
        super().__init__(template_name="lesson", extra_template_basedirs=[str(TEMPLATES)], embed_images=True, **settings)

    @property
    def default_config(self) -> Config:
        ours = [EXPLORER, PREDICTION, NOTE]
        kinds = ["text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]
        config = Config({"NbConvertBase": {"display_data_priority": ours + kinds}, "CSSHTMLHeaderPreprocessor": {"enabled": False}})
        merged = super().default_config.copy()
        merged.merge(config)
        return merged

    @jinja2.pass_context
    def markdown2html(self, context: jinja2.runtime.Context, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        return self.markdown(source, attachments)

    def markdown(self, source: str, attachments: dict[str, Any] | None = None) -> str:
        renderer = Renderer(escape=False, embed_images=True, path=str(NOTEBOOKS), anchor_link_text="", attachments=attachments)
        return MarkdownWithMath(renderer=renderer).render(source)


def mathml(latex: str, *, display: bool) -> str:
    """A wide formula scrolls by itself; one that cannot be converted stops the page."""
    try:
        formula = _converter().convert_with_local_state(latex.strip(), displaystyle=display)
    except LatexError as error:
        raise ValueError(f"the formula {latex.strip()!r} has no MathML: {error}") from None
    return f'<span class="formula">{formula}</span>' if display else formula


@cache
def _converter() -> LatexToMathML:
    return LatexToMathML(fancy_error=False)


def code_colours(scheme: str) -> str:
    """Pygments' rules for code in the light or the dark scheme; the background is the page's."""
    return HtmlFormatter(style=CODE_STYLES[scheme], nobackground=True).get_style_defs(".highlight")
