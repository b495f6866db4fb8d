"""What the documentation says of the code: the files that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "nas|search_spaces|searchers|proxies|experiments|benchmarks|tests|docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(rf"(?<![\w/.])((?:{FOLDERS})/[\w/.-]*[\w/])", page.read_text())
    assert {name for name in named if "NAME" not in name and not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert {link for link in links if not (page.parent / link).exists()} == set()


def test_the_architecture_page_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {path.parent.relative_to(ROOT) for path in (ROOT / "nas").glob("*/__init__.py")}
    rooms |= {path.parent.relative_to(ROOT) for path in (ROOT / "search_spaces").glob("*/__init__.py")}
    assert {str(room) for room in rooms if f"`{room}/" not in text} == set()
