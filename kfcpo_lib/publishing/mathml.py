"""Formulas as MathML: set by the browser itself, read by screen readers, no script and no network.

The font is cut from STIX Two Math, which the package `ziamath` carries, to the characters in use.
"""

import base64
import html
import io
import re
from importlib.metadata import distribution
from xml.etree import ElementTree

from fontTools import subset
from latex2mathml.converter import convert

FONT = "ziamath/fonts/STIXTwoMath-Regular.ttf"
LETTERS = [*range(0x20, 0x7F), *range(0x391, 0x3CA), *range(0x1D434, 0x1D468), 0x210E]
"""ASCII and Greek, and the italics into which a browser turns a single letter."""
GREEK_ITALICS = [*range(0x1D6E2, 0x1D71C)]

_UPRIGHT = re.compile(r"<mi>(&#x0039[1-9A-F];|&#x003A[0-9];)</mi>")  # capital Greek, as TeX has it
_FUNCTION = re.compile(r"(?<!<msub>)(?<!<msup>)(<mi>(?:log|exp|ln|sin|cos|tanh)</mi>)(?!<mo)")


def to_mathml(latex: str, display: bool) -> str:
    r"""One formula, without its dollars.

    >>> to_mathml(r"x^2", display=False)[-52:]
    '<mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>'

    Raises:
        ValueError: if a command of the formula is not known; names it.
    """
    known = latex.replace("{aligned}", "{align*}")
    found = convert(known, display="block" if display else "inline")
    found = _UPRIGHT.sub(r'<mi mathvariant="normal">\1</mi>', found)
    found = _FUNCTION.sub(r'\1<mspace width="0.17em"/>', found)
    found = found.replace("&#x0005E;", "&#x002C6;").replace("0em 2em", "0em 1em")  # a flat hat
    left = re.search(r"\\[a-zA-Z]*", found)
    if left or not _is_well_formed(found):
        raise ValueError(f"{left[0] if left else 'something'} in ${latex.strip()}$ has no MathML")
    return found


def _is_well_formed(text: str) -> bool:
    try:
        ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return False
    return True


def font_face(pages: list[str]) -> str:
    """The CSS that carries the font, cut to the characters that the pages' formulas use."""
    formulas = html.unescape("".join("".join(re.findall(r"<math.*?</math>", p)) for p in pages))
    options = subset.Options(flavor="woff", layout_features=["*"], name_IDs=["*"])
    font = subset.load_font(str(distribution("ziamath").locate_file(FONT)), options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes={*map(ord, formulas), *LETTERS, *GREEK_ITALICS})
    cut.subset(font)
    buffer = io.BytesIO()
    subset.save_font(font, buffer, options)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        '@font-face { font-family: "STIX Two Math"; '
        f'src: url("data:font/woff;base64,{data}") format("woff"); }}\n'
    )
