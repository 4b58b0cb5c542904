"""Slides of every notebook, each deck one file that needs no network and no server: `make slides`.

What a cell is (slide, subslide, fragment, notes, skip) stands in its metadata. The presentation is
made by reveal.js, which the package `sphinx-revealjs` carries.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

from kfcpo_lib.editions import MASTERS
from kfcpo_lib.publishing.cells import TEMPLATES, code_css
from kfcpo_lib.publishing.mathml import font_face
from kfcpo_lib.publishing.pages import Page, frame, notebook_page

SLIDES = Path("build/slides")
REVEAL = "sphinx_revealjs/_static/revealjs"


def reveal(file: str) -> str:
    """A file of reveal.js, safe to stand inside a page's script."""
    path = Path(str(distribution("sphinx-revealjs").locate_file(f"{REVEAL}/{file}")))
    return path.read_text("utf-8").replace("</script", "<\\/script")


def deck_style(page: Page) -> str:
    """All CSS of one deck."""
    ours = [(TEMPLATES / name).read_text("utf-8") for name in ("cells.css", "deck.css")]
    return "".join([reveal("dist/reveal.css"), font_face([page.body]), code_css(), *ours])


def deck_script() -> str:
    """All JavaScript of a deck."""
    ours = (TEMPLATES / "deck.js").read_text("utf-8")
    return "\n".join([reveal("dist/reveal.js"), reveal("plugin/notes/notes.js"), ours])


def write_slides(notebooks: Path, out: Path) -> int:
    """Write a deck for every notebook of a folder, and an index; returns how many decks."""
    files = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    pages = [notebook_page(file, "teacher", template="deck") for file in files]
    out.mkdir(parents=True, exist_ok=True)
    deck, script = frame("deck.html"), deck_script()
    for page in pages:
        content = deck.render(page=page, style=deck_style(page), script=script)
        (out / f"{page.name}.html").write_text(content, "utf-8")
    index = frame("decks.html").render(pages=pages)
    (out / "index.html").write_text(index, "utf-8")
    return len(pages)


def main(words: Sequence[str] | None = None) -> int:
    """Write all decks; returns 1, with the reason in a sentence, if that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m kfcpo_lib.publishing.slides", description=__doc__
    )
    parser.add_argument("--notebooks", type=Path, default=MASTERS)
    parser.add_argument("--out", type=Path, default=SLIDES)
    options = parser.parse_args(words)
    try:
        decks = write_slides(options.notebooks, options.out)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.out / 'index.html'}: {decks} decks")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
