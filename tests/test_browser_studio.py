"""A real training in the studio, driven in headless Chromium: in JupyterLab, and in Voila.

Pictures are kept in build/screenshots/.
"""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from test_browser import browser, browsing, pytestmark

from kfcpo_lib.recordings import Recording

__all__ = ["browser", "pytestmark"]
SCREENSHOTS = browsing.SCREENSHOTS
APP = """
from kfcpo_lib.recordings import find_runs
from kfcpo_lib.widgets.replay import Replay
from kfcpo_lib.widgets.studio import Studio
studio = Studio("runs", env_id="PointMass-v0", num_envs=4, steps_per_epoch=800, cost_limit=10.0,
                total_steps=8_000_000, rule={"minibatch_size": 200})
replay = Replay(lambda: find_runs(["runs"]))
display(studio, replay)
"""
STATUS, WORDS, RESULT = ".kfcpo-status", ".kfcpo-words", ".kfcpo-evaluation"
SAYS = """([place, words]) =>
    [...document.querySelectorAll(place)].some(one => one.innerText.includes(words))"""
OTHER = "([picture, before]) => picture.src !== before && picture.naturalWidth > 0"


@pytest.fixture(params=["Lab", "Voila"])
def server(request, tmp_path):
    for folder in ("app", "jupyter"):
        (tmp_path / folder).mkdir()
    notebook = new_notebook(cells=[new_code_cell(APP)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "app" / "app.ipynb")
    server = getattr(browsing, request.param)(tmp_path / "app", tmp_path / "jupyter")
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_default_timeout(browsing.LIMIT * 1000)
    yield page
    page.close()


def wait(page, place, words):
    page.wait_for_function(SAYS, arg=[place, words])


def press(page, text):
    page.locator(f"button.jupyter-button:has-text('{text}'):not([disabled])").first.click()


def turn(page, text, key):
    page.locator(f".widget-hslider:has-text('{text}') .noUi-handle").first.press(key)


def picture(page, number):
    handle = page.locator("img.kfcpo-view").nth(number).element_handle()
    return handle, handle.get_attribute("src")


def test_training_driven_in_the_browser(server, page, tmp_path):
    kind = type(server).__name__
    address = server.address("app.ipynb")
    if kind == "Lab":
        assert browsing.open_and_run(page, address) == 0
    else:
        page.goto(address)
        assert page.locator(".jp-InputArea, .jp-Cell-inputArea").count() == 0  # no code is shown
    train(page)
    watch_again(page)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"studio_in_{kind}.png", full_page=True)
    [folder] = (tmp_path / "app" / "runs").iterdir()
    turned = {change.knob for change in Recording.read(folder).changes}
    assert turned == {"margin_lambda", "steepness_k"}


def train(page):
    """One epoch; lambda and k are turned while it runs; pause, stop, resume, stop."""
    press(page, "One epoch")
    wait(page, STATUS, "paused")
    wait(page, WORDS, "800 of 8,000,000")
    curves = picture(page, 0)
    press(page, "Go on")
    wait(page, STATUS, "running")
    turn(page, "margin λ", "ArrowLeft")
    wait(page, STATUS, "λ = 0.79 from the next epoch on")
    wait(page, WORDS, "λ: 0.8 → 0.79")
    turn(page, "steepness k", "ArrowRight")
    wait(page, WORDS, "k: 0.3 →")
    page.wait_for_function(OTHER, arg=[*curves])
    press(page, "Pause")
    wait(page, STATUS, "paused")
    press(page, "Stop")
    wait(page, STATUS, "stopped")
    press(page, "Resume")
    wait(page, STATUS, "running")
    press(page, "Stop")
    wait(page, STATUS, "stopped")


def watch_again(page):
    """The run is found, scrubbed and evaluated."""
    press(page, "look again")
    wait(page, STATUS, "kfcpo_PointMass_1: step")
    curves = picture(page, 2)
    turn(page, "epoch", "ArrowLeft")
    page.wait_for_function(OTHER, arg=[*curves])
    press(page, "Evaluate")
    wait(page, RESULT, "mean actions, 20 episodes")
