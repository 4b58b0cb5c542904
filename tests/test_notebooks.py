"""The masters in `notebooks/` are in the state in which they are handed out.

nbval compares what cells print with what they printed; here is what nbval does not see.
"""

import ast
import base64
import copy
import json
import re

import pytest
from masters import MASTERS, ROOT, code_cells, name, read
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kfcpo_lib.editions import student_edition

LARGEST = 1_500_000  # bytes
WIDEST = 1_200  # pixels; on a page of 1280 a wider one shrinks until nobody can read it
SLIDES = {"slide", "subslide", "fragment", "skip", "notes"}
MACHINE = re.compile(
    r"/(?:home|root|Users|tmp|work|opt|usr)/\w|\b[A-Z]:\\|site-packages|ipykernel_"
)
WIDGET = "application/vnd.jupyter.widget-view+json"
OF_A_CELL = {"slideshow", "tags", "kfcpo"}  # what its metadata may hold


def faults(notebook):
    """Everything that keeps a master from being handed out, in words; the fewer the better."""
    found = [*faults_of_the_whole(notebook)]
    for number, cell in enumerate(notebook.cells, start=1):
        found += [f"cell {number}: {fault}" for fault in faults_of_a_cell(cell)]
        if cell.cell_type == "code":
            found += [f"cell {number}: {fault}" for fault in faults_of_code(cell)]
    return found


def faults_of_the_whole(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"not run from top to bottom, cell by cell: {counts}"
    if notebook.metadata.kernelspec.name != "python3":
        yield "made for another kernel than python3"
    if further := {*notebook.metadata} - {"kernelspec", "language_info"}:
        yield f"metadata that students do not need: {further}"
    first = notebook.cells[0].source
    if not re.match(r"# \d\d · \S.*\n\n\*\*[^*\n]+\?\*\*", first):
        yield "does not begin with a title `# NN · Name` and its question in bold"
    try:
        student_edition(notebook)
    except ValueError as error:
        yield f"no student edition: {error}"


def faults_of_a_cell(cell):
    slide_type = cell.metadata.get("slideshow", {}).get("slide_type")
    if slide_type not in SLIDES:
        yield "no slide type"
    if "kfcpo" in cell.metadata and slide_type != "skip":
        yield "a solution on a slide"
    if further := {*cell.metadata} - OF_A_CELL:
        yield f"metadata that differs between machines: {further}"
    if place := MACHINE.search(words_of(cell)):
        yield f"something of the machine it was run on: {place[0]}"


def words_of(cell):
    """What can be read in a cell: its source and outputs, without the bytes of pictures."""
    outputs = copy.deepcopy(cell.get("outputs", []))
    for output in outputs:
        output.get("data", {}).pop("image/png", None)
    return cell.source + json.dumps(outputs)


def faults_of_code(cell):
    yield from faults_of_shows(cell)
    for output in cell.outputs:
        data = output.get("data", {})
        if output.output_type == "error":
            yield f"stops with {output.ename}"
        if output.get("name") == "stderr":
            yield f"warns: {output.text}"
        if kinds := {kind for kind in data if kind.startswith("image/")} - {"image/png"}:
            yield f"a picture that is no PNG: {kinds}"
        if "image/png" in data and not output.metadata.get("image/png", {}).get("alt"):
            yield "a picture without text alternative: use show(figure, alt=...)"
        if WIDGET in data and "nbval-ignore-output" not in cell.metadata.get("tags", []):
            yield "a widget without the tag nbval-ignore-output"


def faults_of_shows(cell):
    for node in ast.walk(ast.parse(cell.source)):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "show"):
            continue
        given = [*node.args[1:], *(word.value for word in node.keywords if word.arg == "alt")]
        if not given or (isinstance(given[0], ast.Constant) and len(str(given[0].value)) < 20):
            yield "show(...) without a sentence as its text alternative"


# ------------------------------------------------------------------------------ the real notebooks


@pytest.mark.parametrize("path", MASTERS, ids=name)
def test_master_is_ready_to_be_handed_out(path):
    assert faults(read(path)) == []
    assert path.stat().st_size < LARGEST


@pytest.mark.parametrize("path", MASTERS, ids=name)
def test_number_of_the_title_is_that_of_the_file_and_the_readme_knows_it(path):
    assert read(path).cells[0].source.startswith(f"# {path.stem[:2]} · ")
    row = re.compile(rf"^\| `{path.stem}` \|.*\| yes \|$", re.MULTILINE)
    assert row.search((ROOT / "README.md").read_text("utf-8"))


@pytest.mark.parametrize("path", MASTERS, ids=name)
def test_every_notebook_has_explorers_exercises_and_folded_answers(path):
    notebook = read(path)
    everything = [output.get("data", {}) for c in code_cells(notebook) for output in c.outputs]
    assert any(WIDGET in data for data in everything) or path.stem.startswith("00")
    assert any("kfcpo" in cell.metadata for cell in notebook.cells)
    assert "<details>" in notebook.cells[-1].source or "<details>" in notebook.cells[-2].source


@pytest.mark.parametrize("path", [path for path in MASTERS if path.stem < "08"], ids=name)
def test_pictures_of_the_first_eight_fit_a_page(path):
    everything = [output.get("data", {}) for c in code_cells(read(path)) for output in c.outputs]
    widths = [width_of(data["image/png"]) for data in everything if "image/png" in data]
    assert 0 < min(widths) <= max(widths) <= WIDEST


def width_of(picture):
    """Pixels, from the header of a PNG in base64."""
    return int.from_bytes(base64.b64decode(picture)[16:20], "big")


# --------------------------------------------------------------------------- the faults are noticed


def make_good():
    """The smallest notebook without a fault."""
    story = new_markdown_cell("# 99 · Doubling\n\n**What is twice two?**")
    code = new_code_cell("print(2 * 2)", execution_count=1)
    code.outputs = [new_output("stream", name="stdout", text="4\n")]
    notebook = new_notebook(cells=[story, code])
    notebook.metadata = {"kernelspec": {"name": "python3"}, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {"slideshow": {"slide_type": "slide"}, "tags": []}
    return copy.deepcopy(notebook)


def picture(kind, alt="Two dots and two more dots."):
    metadata = {kind: {"alt": alt}} if alt else {}
    return new_output("display_data", data={kind: "aGk="}, metadata=metadata)


def set_output(output):
    return lambda notebook: notebook.cells[1].outputs.append(output)


def set_in_cell(key, value):
    return lambda notebook: notebook.cells[1].update({key: value})


def set_in_metadata(key, value):
    return lambda notebook: notebook.cells[1].metadata.update({key: value})


def put_a_solution_on_a_slide(notebook):
    cell = notebook.cells[1]
    cell.source, cell.outputs = "def my_four():\n    return 4", []
    stub = {"stub": "def my_four():\n    return None"}
    cell.metadata.update(tags=["solution"], kfcpo=stub, slideshow={"slide_type": "fragment"})


def test_good_notebook_has_no_faults():
    good = make_good()
    good.cells[1].outputs.append(picture("image/png"))
    good.cells[1].source = "show(figure, alt='Two dots and two more dots.')"
    assert faults(good) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (set_in_cell("execution_count", None), "not run from top to bottom"),
        (set_in_cell("execution_count", 7), "not run from top to bottom"),
        (lambda nb: nb.metadata.update(widgets={}), "students do not need: {'widgets'}"),
        (lambda nb: nb.metadata.kernelspec.update(name="torch"), "another kernel"),
        (lambda nb: nb.cells[0].update(source="# Doubling"), "title"),
        (set_in_metadata("slideshow", {}), "no slide type"),
        (set_in_metadata("execution", {"start": "12:00"}), "differs between machines"),
        (set_in_metadata("tags", ["solution"]), "no student edition"),
        (put_a_solution_on_a_slide, "a solution on a slide"),
        (set_in_cell("source", "open('/home/ann/x.csv')"), "of the machine"),
        (set_output(new_output("stream", name="stdout", text=r"C:\Users\ann")), "of the machine"),
        (set_output(new_output("stream", name="stderr", text="deprecated")), "warns: deprecated"),
        (set_output(new_output("error", ename="KeyError", evalue="")), "stops with KeyError"),
        (set_output(picture("image/svg+xml")), "no PNG"),
        (set_output(picture("image/png", alt="")), "without text alternative"),
        (set_output(new_output("display_data", data={WIDGET: {}})), "a widget without the tag"),
        (set_in_cell("source", "show(figure)"), "without a sentence"),
        (set_in_cell("source", "show(figure, 'dots')"), "without a sentence"),
    ],
)
def test_fault_is_noticed(spoil, said):
    notebook = make_good()
    spoil(notebook)
    [fault] = faults(notebook)
    assert said in fault
