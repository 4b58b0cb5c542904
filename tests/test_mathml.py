"""Formulas without a script: each formula of the course becomes MathML, in a font that has it."""

import base64
import io
import re
from xml.etree import ElementTree

import pytest
from fontTools.ttLib import TTFont
from masters import MASTERS, name, read

from kfcpo_lib.publishing.cells import markdown_to_html
from kfcpo_lib.publishing.mathml import font_face, to_mathml


def tree(latex, display=True):
    return ElementTree.fromstring(re.sub(' xmlns="[^"]*"', "", to_mathml(latex, display)))


def texts(latex, tag):
    return [element.text for element in tree(latex).iter(tag)]


def test_structure_is_that_of_the_formula():
    [fraction] = tree(r"\frac{a}{b+1}").iter("mfrac")
    above, below = ("".join(part.itertext()) for part in fraction)
    assert (above, below) == ("a", "b+1")
    assert tree("x", display=True).get("display") == "block"
    assert tree("x", display=False).get("display") == "inline"


def test_aligned_lines_become_rows():
    rows = list(tree("\n\\begin{aligned}\na &= 1 \\\\\nb &= 2\n\\end{aligned}\n").iter("mtr"))
    assert ["".join(row.itertext()) for row in rows] == ["a=1", "b=2"]


def test_capital_greek_is_upright_and_functions_keep_their_distance():
    delta, sigma = tree(r"\Delta \sigma").iter("mi")
    assert (delta.get("mathvariant"), sigma.get("mathvariant")) == ("normal", None)
    assert len(list(tree(r"\log \pi").iter("mspace"))) == 1
    assert not list(tree(r"\log(\pi)").iter("mspace"))
    assert [len(power) for power in tree(r"\log^2 x").iter("msup")] == [2]


def test_unknown_command_is_named():
    with pytest.raises(ValueError, match=r"\\fishy in \$a \\fishy b\$ has no MathML"):
        to_mathml(r"a \fishy b", display=False)


@pytest.mark.parametrize("path", MASTERS, ids=name)
def test_every_formula_of_the_notebook_is_known(path):
    sources = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    page = "".join(markdown_to_html(source) for source in sources)
    assert page.count("<math") > 0
    words = re.sub(r"<math.*?</math>|<code>.*?</code>", "", page, flags=re.DOTALL)
    assert not re.search(r"\\[a-zA-Z]+\{|\$\$|\$[^$\n]+\$", words), "not taken for a formula"


def test_font_has_what_the_formulas_need_and_knows_how_to_set_them():
    formula = to_mathml(r"\otimes \sum_i \nabla_\theta \mathbb{E} x", display=True)
    css = font_face([f"<p>é {formula}</p>"])
    data = base64.b64decode(re.search(r'base64,([^"]*)"', css)[1])
    font = TTFont(io.BytesIO(data))
    there = set(font.getBestCmap())
    assert {*map(ord, "⊗∑∇𝔼𝑥𝜃")} <= there
    assert ord("é") not in there
    assert "MATH" in font
    assert len(data) < 200_000
