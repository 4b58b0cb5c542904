"""The course as a static site, in the students' edition and the teacher's: `make site`.

Open `index.html` of an edition by a double click, or put the folder on any web server. There is no
network, no server and no installation behind it; the search runs in the page.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kfcpo_lib.editions import MASTERS
from kfcpo_lib.publishing.cells import TEMPLATES, code_css
from kfcpo_lib.publishing.mathml import font_face
from kfcpo_lib.publishing.pages import EDITIONS, Page, frame, pages_of

SITE = Path("build/site")


def write_site(pages: list[Page], edition: str, out: Path) -> None:
    """Write an edition's pages with all that they need into one folder."""
    out.mkdir(parents=True, exist_ok=True)
    of_all = {"pages": pages, "edition": edition}
    neighbours = zip(pages, [None, *pages], [*pages[1:], None], strict=False)
    for page, before, after in neighbours:
        content = frame("notebook.html").render(**of_all, page=page, before=before, after=after)
        (out / f"{page.name}.html").write_text(content, "utf-8")
    (out / "index.html").write_text(frame("index.html").render(**of_all, page=None), "utf-8")
    (out / "site.css").write_text(site_style(pages), "utf-8")
    search = (TEMPLATES / "search.js").read_text("utf-8")
    (out / "search.js").write_text(searchable(pages) + search, "utf-8")


def site_style(pages: list[Page]) -> str:
    """All CSS of one edition, with the formulas' font in it."""
    ours = [(TEMPLATES / name).read_text("utf-8") for name in ("cells.css", "site.css")]
    return "".join([font_face([page.body for page in pages]), code_css(), *ours])


def searchable(pages: list[Page]) -> str:
    """All sections as a script: a page opened from a disk may not fetch files, but run scripts."""
    sections = [
        [f"{page.name}.html#{section.anchor}", page.title, section.heading, section.text]
        for page in pages
        for section in page.sections
    ]
    return f"const SECTIONS = {json.dumps(sections, ensure_ascii=False)};\n"


def main(words: Sequence[str] | None = None) -> int:
    """Write both editions; returns 1, with the reason in a sentence, if that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m kfcpo_lib.publishing.site", description=__doc__
    )
    parser.add_argument("--notebooks", type=Path, default=MASTERS)
    parser.add_argument("--out", type=Path, default=SITE)
    options = parser.parse_args(words)
    for edition in EDITIONS:
        try:
            pages = pages_of(options.notebooks, edition)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        write_site(pages, edition, options.out / edition)
        print(f"{options.out / edition / 'index.html'}: {len(pages)} pages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
