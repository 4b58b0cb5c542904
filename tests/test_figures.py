"""`make figures` draws every static figure of the course, small and always the same."""

import importlib.util

import pytest
from masters import MASTERS, ROOT

from kfcpo_lib.plots.style import png

LARGEST = 150_000  # bytes


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("draw", ROOT / "figures" / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_figures_are_drawn_and_small(script, tmp_path, capsys):
    assert script.main(["--out", str(tmp_path)]) == 0
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {*drawn} == {f"{name}.png" for name in [*script.FIGURES, "demo"]}
    assert capsys.readouterr().out == f"{len(drawn)} figures in {tmp_path}\n"
    for name, picture in drawn.items():
        assert picture.startswith(b"\x89PNG"), name
        assert len(picture) < LARGEST, name
        assert (ROOT / "figures" / name).exists(), f"{name} is not stored: make figures"
    again = png(script.FIGURES["02_paths"](), dpi=script.DPI)
    assert again == drawn["02_paths.png"]


def test_every_notebook_has_a_figure(script):
    assert {path.stem[:2] for path in MASTERS} <= {name[:2] for name in script.FIGURES}
