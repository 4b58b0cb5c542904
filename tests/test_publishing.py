"""Site and slides: complete, without a word to another machine, readable and usable by keyboard.

Pictures of what the browser shows are kept in build/screenshots/.
"""

import functools
import re
import shutil
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup
from masters import MASTERS, ROOT, code_cells, read

from kfcpo_lib.publishing import site, slides
from kfcpo_lib.publishing.cells import INSTEAD_OF_WIDGET

browsing = pytest.importorskip("lab_in_browser", reason="playwright is not installed")

SAMPLE = [path for path in MASTERS if path.stem[:2] in {"00", "05"}]
EDITIONS = ("student", "teacher")
SCREENSHOTS = browsing.SCREENSHOTS
TEACHING = (
    "# Teaching\n\nBegin with [00](00_start_here.ipynb).\n\n## One day\n\nAsk for $\\lambda$."
)
ELSEWHERE = re.compile(r"""url\(["']?(?!["']?data:)[^)]*|@import[^;]*""")

needs_browser = pytest.mark.skipif(
    browsing.find_browser() is None,
    reason="no Chromium or Chrome on the PATH (Debian and Ubuntu: apt-get install chromium)",
)


def publish(notebooks, out):
    """The site and the slides of some notebooks."""
    assert site.main(["--notebooks", str(notebooks), "--out", str(out / "site")]) == 0
    assert slides.main(["--notebooks", str(notebooks), "--out", str(out / "slides")]) == 0
    return out


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    """A folder with two masters and a text for teachers that points to one of them."""
    folder = tmp_path_factory.mktemp("notebooks")
    for path in SAMPLE:
        shutil.copy(path, folder)
    (folder / "TEACHING.md").write_text(TEACHING, "utf-8")
    return folder


@pytest.fixture(scope="module")
def published(notebooks, tmp_path_factory):
    return publish(notebooks, tmp_path_factory.mktemp("published"))


def soup_of(file):
    return BeautifulSoup(file.read_text("utf-8"), "html.parser")


# ----------------------------------------------------------------------------- what is in the files


def faults_of(published):
    """All that keeps what was published from being whole, in words."""
    for file in sorted(published.rglob("*.html")):
        page = soup_of(file)
        faults = [*dead_links(page, file), *loads(page), *mute(page)]
        yield from (f"{file.name}: {fault}" for fault in faults)
    for file in published.rglob("*.css"):
        yield from (f"{file.name} loads {a}" for a in ELSEWHERE.findall(file.read_text("utf-8")))


def loads(page):
    """What a browser would fetch from elsewhere by itself, other than by a click."""
    for element in page.select("[src], link[href], [action]"):
        address = element.get("src") or element.get("href") or element["action"]
        if re.match("(https?:)?//", address):
            yield f"loads {address}"
    for style in page.select("style"):
        yield from (f"loads {address}" for address in ELSEWHERE.findall(style.get_text()))


def dead_links(page, file):
    for link in page.select("a[href], link[rel=stylesheet], script[src]"):
        address, _, anchor = (link.get("href") or link["src"]).partition("#")
        if re.match("https?:", address):
            continue
        target = file.parent / address if address else file
        if not target.exists():
            yield f"a link to {address}, which is not there"
        elif anchor and not {anchor, unquote(anchor)} & ids_of(target):
            yield f"a link to #{anchor} in {target.name}, which is not there"


@functools.cache
def ids_of(file):
    return set(re.findall(r'<[^>]* id="([^"]*)"', file.read_text("utf-8")))


def mute(page):
    """What a screen reader would be silent about."""
    for picture in page.select("img"):
        if len(picture.get("alt", "")) < 20 or "No description" in picture["alt"]:
            yield f"a picture without text alternative: {picture.get('alt')!r}"
    if page.html.get("lang") != "en" or not page.title.get_text():
        yield "no language or no title"
    if len(page.select("main")) != 1:
        yield "not one main part"
    for field in page.select("input:not([type=checkbox])"):
        if not page.select(f"label[for={field['id']}]"):
            yield f"an unlabelled field {field['id']}"


def test_whole_without_a_dead_link_an_address_elsewhere_or_a_mute_picture(published):
    assert list(faults_of(published)) == []


@pytest.mark.full
def test_whole_course_is_without_faults(tmp_path):
    published = publish(ROOT / "notebooks", tmp_path)
    assert list(faults_of(published)) == []
    for folder in ("site/student", "site/teacher", "slides"):
        assert {path.stem for path in MASTERS} <= {
            page.stem for page in (tmp_path / folder).iterdir()
        }


@pytest.mark.parametrize("master", SAMPLE, ids=lambda path: path.stem)
def test_page_shows_all_pictures_with_their_words_and_all_texts(published, master):
    outputs = [output for cell in code_cells(read(master)) for output in cell.outputs]
    alts = [o.metadata["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]
    page = soup_of(published / "site" / "teacher" / f"{master.stem}.html")
    assert [picture["alt"] for picture in page.select("main img")] == alts
    words = page.main.get_text()
    assert [o.text for o in outputs if o.output_type == "stream" and o.text not in words] == []
    widgets = sum("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in outputs)
    assert str(page).count(INSTEAD_OF_WIDGET) == widgets


def test_students_see_no_solution_and_teachers_do(published):
    notebook = read(SAMPLE[-1])
    solutions = [cell for cell in notebook.cells if "solution" in cell.metadata.get("tags", [])]
    words = {
        edition: soup_of(published / "site" / edition / f"{SAMPLE[-1].stem}.html").get_text()
        for edition in EDITIONS
    }
    for cell in solutions:
        assert cell.source in words["teacher"]
        assert cell.source not in words["student"]
        assert cell.metadata["kfcpo"]["stub"] in words["student"]
    assert len(solutions) > 0


def test_slides_show_no_solution(published):
    for master in SAMPLE:
        deck = soup_of(published / "slides" / f"{master.stem}.html").get_text()
        cells = [cell for cell in read(master).cells if cell.cell_type == "code"]
        assert any(cell.source in deck for cell in cells)
        assert not any(cell.source in deck for cell in cells if "kfcpo" in cell.metadata)


def test_text_for_teachers_is_in_their_edition_alone(published):
    teaching = soup_of(published / "site" / "teacher" / "TEACHING.html")
    assert teaching.select_one("main a[href='00_start_here.html']")
    assert "One day" in (published / "site" / "teacher" / "search.js").read_text("utf-8")
    assert not (published / "site" / "student" / "TEACHING.html").exists()


@pytest.mark.parametrize("command", [site, slides])
def test_unknown_formula_ends_in_one_sentence(command, tmp_path, capsys):
    bad = read(SAMPLE[0])
    bad.cells[0].source += "\n\n$\\fishy$"
    nbformat.write(bad, tmp_path / SAMPLE[0].name)
    assert command.main(["--notebooks", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error == f"{SAMPLE[0].name}: \\fishy in $\\fishy$ has no MathML\n"
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def offline():
    """A browser without a network."""
    with browsing.browser() as started:
        yield started.new_context(offline=True, viewport={"width": 1280, "height": 720})


@pytest.fixture
def page(offline):
    """A page that remembers in `page.complaints` what it complained of and asked others for."""
    page = offline.new_page()
    page.set_default_timeout(browsing.LIMIT * 1000)
    page.complaints = []
    page.on("console", lambda said: page.complaints.append(said.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda asked: page.complaints.extend(strange(asked.url)))
    yield page
    page.close()


def strange(url):
    return [] if url.startswith(("file:", "data:")) else [url]


def photograph(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


BROKEN = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).length"
FONT = "document.fonts.ready.then(() => document.fonts.check('16px \"STIX Two Math\"', 'π'))"
FLAT = "[...document.querySelectorAll('main math')].filter(m => !m.getClientRects().length).length"


@needs_browser
def test_site_is_opened_from_the_disk_and_shows_all(published, page):
    page.goto((published / "site" / "student" / "index.html").as_uri())
    photograph(page, "site_index")
    page.get_by_role("main").get_by_role("link").last.click()
    page.wait_for_url("**/05_*.html")
    assert page.evaluate(BROKEN) == 0
    assert page.evaluate(FONT)
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    assert page.evaluate(FLAT) == 0
    fraction = page.locator("math:has(mfrac)").first
    fraction.scroll_into_view_if_needed()
    photograph(page, "site_formula")
    page.locator("main img").first.scroll_into_view_if_needed()
    photograph(page, "site_figure")
    above, below = (
        fraction.locator(f"mfrac > :nth-child({n})").first.bounding_box() for n in (1, 2)
    )
    assert above["y"] < below["y"]
    assert page.complaints == []


@needs_browser
def test_search_by_keyboard_alone(published, page):
    page.goto((published / "site" / "teacher" / "index.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("margin weights")
    results = page.get_by_role("region", name="Search results")
    results.get_by_role("link").first.wait_for()
    photograph(page, "site_search")
    assert page.get_by_role("main").count() == 0
    assert re.match(
        r"\d+ sections with “margin weights”", results.get_by_role("status").inner_text()
    )
    headings = results.get_by_role("link").all_inner_texts()
    assert any("Weights from a margin" in heading for heading in headings[:3])
    page.keyboard.press("Tab")
    chosen = page.evaluate("document.activeElement.textContent")
    assert chosen == headings[0]
    page.keyboard.press("Enter")
    page.wait_for_url("**/05_*.html#*")
    here = page.get_by_role("heading", name=chosen)
    assert 0 <= here.bounding_box()["y"] < 720
    page.keyboard.press("/")
    page.keyboard.type("zebra")
    assert "Nothing with" in results.get_by_role("status").inner_text()
    page.keyboard.press("Escape")
    assert page.get_by_role("main").is_visible()
    assert page.complaints == []


@needs_browser
def test_first_stop_of_the_tab_key_leads_past_the_navigation(published, page):
    page.goto((published / "site" / "student" / f"{SAMPLE[0].stem}.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the text"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


PLACE = """() => {
    const slide = Reveal.getCurrentSlide();
    return [Reveal.getSlidePastCount(), slide.querySelectorAll('.fragment.visible').length,
            Math.round(slide.scrollTop)];
}"""


@needs_browser
def test_space_alone_leads_through_a_whole_deck(published, page):
    page.goto((published / "slides" / f"{SAMPLE[-1].stem}.html").as_uri())
    page.wait_for_function("Reveal.isReady()")
    assert page.evaluate(BROKEN) == 0
    places = [page.evaluate(PLACE)]
    while True:
        page.keyboard.press("Space")
        places.append(page.evaluate(PLACE))
        if places[-1] == places[-2]:
            break
        if places[-1][0] == 1 and places[-2][0] == 0:
            photograph(page, "slides_first_step")
    photograph(page, "slides_end")
    slides = [place[0] for place in places]
    assert slides == sorted(slides)
    assert set(slides) == set(range(page.evaluate("Reveal.getTotalSlides()")))
    assert page.evaluate("document.querySelectorAll('.fragment:not(.visible)').length") == 0
    page.keyboard.press("Shift+Space")
    assert page.evaluate(PLACE) != places[-1]
    assert page.complaints == []
