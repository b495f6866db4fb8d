"""The figures as tables on the terminal, as a JSON file, and as a page of its own beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from rich.table import Table

from benchmarks.gpu.tables import SECTIONS, key_figures, number, percent
from nas.cli.printing import Terminal
from nas.files import make_folder, write

Found = dict[str, Any]


def page_of(out: Path) -> Path:
    """Where the page of the figures in ``out`` is."""
    return out.with_suffix(".html")


def store(found: Found, out: Path) -> None:
    """Writes the JSON file and the page."""
    make_folder(out.parent)
    write(out, json.dumps(found, indent=2, allow_nan=False) + "\n")
    write(page_of(out), page(found))


def page(found: Found) -> str:
    """The page: no script, nothing fetched."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.ChainableUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(number=number, percent=percent)
    return environment.get_template("page.html").render(
        title=f"Speed on {_device(found)}", found=found, facts=key_figures(found), sections=SECTIONS,
        about=_about(found), machine=_machine(found),
    )  # fmt: skip


def _device(found: Found) -> str:
    hardware = found["hardware"]
    return str(hardware.get("accelerator") or hardware.get("processor") or hardware["device"])


def _about(found: Found) -> str:
    commit = (found["git_commit"] or "not known")[:10]
    return (
        f"python -m benchmarks.gpu, begun {found['started']}, {number(found['seconds'])} s; torch"
        f" {found['versions'].get('torch')}, commit {commit}. Trainings and attacks are of the cell {found['cell']};"
        " the images are the embedded digits at 32x32."
    )


def _machine(found: Found) -> list[tuple[str, str]]:
    parts = {**found["hardware"], **found["versions"], "TF32": found["tf32"], "commit": found["git_commit"]}
    return [(name, str(value)) for name, value in parts.items()]


def show(found: Found, terminal: Terminal) -> None:
    """Prints a table for each section, what was skipped, and what it was measured on."""
    for name, section in SECTIONS.items():
        rows = found["rows"][name]
        if not rows:
            continue
        table = Table(title=section.title, title_justify="left")
        for number_, column in enumerate(section.columns):
            table.add_column(column.title, justify="right" if number_ else "left")
        for row in rows:
            table.add_row(*(column.of(row) for column in section.columns))
        terminal.print(table)
    for row in (row for rows in found["rows"].values() for row in rows if "error" in row):
        terminal.say(f"not measured: {row['name']}: {row['error']}")
    if found["skipped"]:
        terminal.say(f"skipped after {found['budget_seconds']:g} s (--budget): {'; '.join(found['skipped'])}")
    terminal.say(f"torch {found['versions']['torch']}, {_device(found)}, commit {found['git_commit']}")
