"""TEACHING.md says of the notebooks what they say of themselves."""

import re

import pytest
from masters import MASTERS, ROOT, name, read

TEACHING = (ROOT / "notebooks" / "TEACHING.md").read_text("utf-8")
LIST = {
    row["name"]: row
    for row in re.finditer(r"^\| `(?P<name>\d\d_\w+)` \| (?P<minutes>\d+) \|", TEACHING, re.M)
}


def section(title):
    return re.search(rf"^### {title}.*?(?=^##)", TEACHING, re.M | re.S)[0]


def minutes_in(title):
    """The minutes of the sections and of the whole, from a table or from a sentence."""
    if sentence := re.search(r"\b(\d+) minutes: (.+)$", title, re.M):
        return [int(part) for part in re.findall(r"\d+", sentence[2])], int(sentence[1])
    [whole] = re.findall(r"^\| \*\*in all\*\* \| \*\*(\d+)\*\* \|", title, re.M)
    return [int(part) for part in re.findall(r"^\|.*\| (\d+) \|$", title, re.M)], int(whole)


@pytest.mark.parametrize("path", MASTERS, ids=name)
def test_minutes_of_the_list_are_the_notebooks_own(path):
    parts, whole = minutes_in(read(path).cells[0].source)
    assert sum(parts) == whole == int(LIST[path.stem]["minutes"])


def test_the_list_is_that_of_the_readme():
    assert [*LIST] == re.findall(
        r"^\| `(\d\d_\w+)` \|", (ROOT / "README.md").read_text("utf-8"), re.M
    )


@pytest.mark.parametrize("plan", ["Three days", "Six weeks"])
def test_minutes_of_a_plan_add_up(plan):
    rows = re.findall(r"^\| [^|]+ \| (`.*?`) \| (\d+) \|", section(plan), re.M)
    assert rows
    for names, minutes in rows:
        parts = [int(LIST[part]["minutes"]) for part in re.findall(r"`(\w+)`", names)]
        assert sum(parts) == int(minutes)


def test_nothing_takes_longer_in_one_day_than_in_its_notebook():
    rows = re.findall(r"^\| \d+:\d\d \| `(\w+)` \| (\d+) \|", section("One day"), re.M)
    assert len(rows) == 8
    assert all(int(minutes) <= int(LIST[notebook]["minutes"]) for notebook, minutes in rows)


def test_every_notebook_has_its_part():
    numbers = re.findall(r"^### (\d\d) · \w", TEACHING, re.M)
    assert numbers == [notebook[:2] for notebook in LIST]
    for number in numbers:
        part = section(f"{number} · ")
        assert all(f"**{word}" in part for word in ("They believe", "Ask", "Time", "Skip"))
