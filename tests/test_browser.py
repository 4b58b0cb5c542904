"""Every notebook once in a real browser: JupyterLab in headless Chromium.

Open, run all, turn every control of every explorer: the picture changes, and neither the page nor
the kernel reports an error. Pictures of all explorers are kept in build/screenshots/; with
SCREENSHOTS=all in the environment, pictures of the whole notebooks too.
"""

import os

import nbformat
import pytest
from masters import MASTERS, classroom, code_cells, name, read

browsing = pytest.importorskip("lab_in_browser", reason="playwright is not installed")

SCREENSHOTS = browsing.SCREENSHOTS
EXPLORER = ".widget-vbox:has(> img.kfcpo-picture)"
SLIDERS, CHOICES = ".noUi-handle", "select, input[type=checkbox]"
COMPLAINT = "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type$='.stderr']"

pytestmark = pytest.mark.skipif(
    browsing.find_browser() is None,
    reason="no Chromium or Chrome on the PATH (Debian and Ubuntu: apt-get install chromium)",
)


@pytest.fixture(scope="module")
def browser():
    with browsing.browser() as started:
        yield started.new_context(viewport={"width": 1280, "height": 1800})


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """The folder in which the notebooks are opened, shaped like the repository."""
    return classroom(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def lab(desk, tmp_path_factory):
    server = browsing.Lab(desk.parent, tmp_path_factory.mktemp("jupyter"))
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


@pytest.fixture
def page(browser, lab):
    """A page that remembers what it complained of, in `page.complaints`."""
    page = browser.new_page()
    page.set_default_timeout(browsing.LIMIT * 1000)
    page.complaints = []
    page.on("console", lambda said: page.complaints.extend(errors_in(said)))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    page.close()
    lab.stop_kernels()


def errors_in(said):
    return [f"{said.text} ({said.location['url']})"] if said.type == "error" else []


def put_on_desk(master, desk):
    """A copy without outputs: whatever is seen later was made in the browser's session."""
    notebook = read(master)
    for cell in code_cells(notebook):
        cell.update(outputs=[], execution_count=None)
    nbformat.write(notebook, desk / master.name)
    return f"{desk.name}/{master.name}"


@pytest.mark.parametrize("master", MASTERS, ids=name)
def test_notebook_in_the_browser(master, desk, lab, page):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    not_run = browsing.open_and_run(page, lab.address(put_on_desk(master, desk)))
    assert page.locator(COMPLAINT).all_inner_texts() == []
    assert not_run == 0
    explorers = page.locator(EXPLORER)
    assert explorers.count() == said_to_have(master)
    if os.environ.get("SCREENSHOTS") == "all":
        browsing.photograph(page, SCREENSHOTS, master.stem)
    for number, explorer in enumerate(explorers.all(), start=1):
        turn_everything(page, explorer)
        explorer.screenshot(path=SCREENSHOTS / f"{master.stem}_explorer{number}.png")
    assert page.locator(COMPLAINT).all_inner_texts() == []
    assert page.complaints == []
    assert "Traceback" not in lab.log.read_text("utf-8")


def said_to_have(master):
    """How many explorers the committed notebook shows."""
    outputs = [output for cell in code_cells(read(master)) for output in cell.outputs]
    return sum(o.get("data", {}).get("text/plain", "").startswith("Explorer(") for o in outputs)


def turn_everything(page, explorer):
    """Sliders first: a choice may make some of them idle."""
    controls = [*explorer.locator(SLIDERS).all(), *explorer.locator(CHOICES).all()]
    assert controls
    for control in controls:
        browsing.turn_and_wait(page, explorer, control)
