"""What a page of the site is: a notebook or a text as HTML, with the sections that one finds."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from kfcpo_lib.editions import student_edition
from kfcpo_lib.publishing.cells import TEMPLATES, cells_to_html, markdown_to_html

EDITIONS = ("student", "teacher")
COLOUR_OF_CODE = re.compile(r"</?span[^>]*>|data:image/[^\"]*")  # most of a page, and no words
LOCAL_NOTEBOOK = re.compile(r'href="(?:\./)?(\w+)\.ipynb')


def frame(name: str) -> Template:
    """The HTML around a page's body."""
    loader = FileSystemLoader(TEMPLATES / "frames")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(name)


@dataclass(frozen=True)
class Section:
    """A part of a page under one heading: what the search finds."""

    level: int
    anchor: str
    heading: str
    text: str


@dataclass(frozen=True)
class Page:
    """One page of the site; `name` is its file's, without `.html`."""

    name: str
    title: str
    question: str
    body: str
    sections: list[Section]


def pages_of(notebooks: Path, edition: str) -> list[Page]:
    """Every notebook of a folder in one edition; the teacher's has TEACHING.md as well.

    Raises:
        ValueError: if a notebook has no student edition or a formula is unknown; names the file.
    """
    pages = [notebook_page(file, edition) for file in sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))]
    teaching = notebooks / "TEACHING.md"
    if edition == "teacher" and teaching.exists():
        pages.append(_page("TEACHING", markdown_to_html(teaching.read_text("utf-8"))))
    return pages


def notebook_page(file: Path, edition: str, template: str = "cells") -> Page:
    """A notebook in one edition, as a page; with the template `deck` its cells stand in slides.

    Raises:
        ValueError: if it has no student edition or a formula is unknown; names the file.
    """
    try:
        return _page(file.stem, cells_to_html(read_edition(file, edition), template))
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def read_edition(file: Path, edition: str) -> Any:
    """A master as it is (`teacher`), or with stubs for its solutions (`student`)."""
    master = nbformat.read(file, as_version=4)
    return student_edition(master) if edition == "student" else master


def _page(name: str, body: str) -> Page:
    body = LOCAL_NOTEBOOK.sub(r'href="\1.html', body)
    soup = BeautifulSoup(COLOUR_OF_CODE.sub("", body), "html.parser")
    sections = sections_of(soup)
    title = sections[0].heading if sections else name
    strong = soup.select_one("h1 + p > strong")
    return Page(name, title, strong.get_text() if strong else "", body, sections)


def sections_of(soup: BeautifulSoup) -> list[Section]:
    """The headings of a page with the words below each, up to the next one."""
    headings = soup.find_all(re.compile("^h[1-4]$"))
    return [_section(heading) for heading in headings]


def _section(heading: Tag) -> Section:
    anchor = str(heading.get("id", ""))
    name = "".join(piece for piece in heading.strings if piece != "¶")
    return Section(int(heading.name[1]), anchor, name.strip(), _words_below(heading))


def _words_below(heading: Tag) -> str:
    words: list[str] = []
    inside = {id(piece) for piece in heading.descendants}
    for piece in heading.next_elements:
        if isinstance(piece, Tag) and re.match("^h[1-4]$", piece.name):
            break
        if isinstance(piece, NavigableString) and id(piece) not in inside:
            words.append(str(piece))
    return " ".join("".join(words).split())
