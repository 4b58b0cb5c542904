"""Readable by everyone: contrast by WCAG 2.2, colours told apart by the colour-blind, alt texts.

Alternative texts of the notebooks' figures are held by test_notebooks.py, those of the site by
test_publishing.py, the use of all controls by keyboard by test_browser.py.
"""

import itertools
import re

import numpy as np
import pytest
from masters import ROOT
from pygments.styles import get_style_by_name

from kfcpo_lib.plots import style
from kfcpo_lib.publishing.cells import CODE_STYLE, TEMPLATES

NAMES = ("REWARD", "COST", "LIMIT", "MARGIN", "ROLLBACK", "COMMITTED", "SECOND", "NEUTRAL")
COLOURS = {name: getattr(style, name) for name in NAMES}
GRAPHICS, TEXT = 3.0, 4.5  # WCAG 2.2, level AA: success criteria 1.4.11 and 1.4.3
APART = 12.0  # CIELAB units; about 2 are just noticed side by side

# How three kinds of dichromats see linear RGB: Machado, Oliveira & Fernandes (2009), severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanope": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)  # IEC 61966-2-1, the standard of sRGB
WHITE_POINT = TO_XYZ.sum(axis=1)


def linear(colour):
    """Linear RGB in [0, 1] of `#rrggbb` or `#rgb`."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    srgb = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """WCAG's ratio of relative luminances, between 1 and 21."""
    dark, bright = sorted((TO_XYZ @ linear(colour))[1] for colour in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def lab(rgb):
    """CIELAB of linear RGB."""
    ratio = TO_XYZ @ np.clip(rgb, 0, 1) / WHITE_POINT
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one, other, sight):
    """How far apart two colours are for someone, in CIELAB."""
    seen = [lab(np.array(SIGHT[sight]) @ linear(colour)) for colour in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def test_the_measures_are_those_of_the_standards():
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777", "#fff") == pytest.approx(4.48, abs=0.01)  # WebAIM's classic failure
    assert lab(linear("#FF0000")) == pytest.approx([53.2, 80.1, 67.2], abs=0.2)
    assert distance("#808080", "#808080", "tritanope") == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_colour_of_the_figures_stands_out_from_white(name):
    assert contrast(COLOURS[name], "#FFFFFF") >= GRAPHICS


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_of_the_figures_are_told_apart(sight):
    near = {
        (one, other): round(distance(COLOURS[one], COLOURS[other], sight), 1)
        for one, other in itertools.combinations(NAMES, 2)
        if distance(COLOURS[one], COLOURS[other], sight) < APART
    }
    assert near == {}


def test_code_and_texts_of_site_and_slides_stand_out_from_their_background():
    code_background = "#f6f8fa"
    css = "".join(file.read_text("utf-8") for file in TEMPLATES.glob("*.css"))
    assert f"background: {code_background}" in css
    weak = {
        str(token): look["color"]
        for token, look in get_style_by_name(CODE_STYLE)
        if look["color"] and contrast(look["color"], code_background) < TEXT
    }
    texts = re.findall(r"[{; ]color: (#\w+)", css)
    assert weak == {}
    assert len(texts) >= 3
    assert [colour for colour in texts if contrast(colour, code_background) < TEXT] == []


def test_pictures_of_the_readme_have_an_alternative_text():
    pictures = re.findall(r"!\[([^\]]*)\]\(", (ROOT / "README.md").read_text("utf-8"))
    assert pictures
    assert all(len(text) >= 20 for text in pictures)
