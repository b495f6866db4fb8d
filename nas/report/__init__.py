"""A run as one HTML page: what was found, how it was found, and how sure one can be of it.

``write_report(run)`` reads a run directory and writes ``report.html`` into it: one file that needs no network and no
script. The same from the command line: ``python -m nas.report RUN``. matplotlib and jinja2 are imported when a page is
written, never before.
"""

from __future__ import annotations

from pathlib import Path

from nas.errors import UserError

__all__ = ["write_report"]

PAGE_NAME = "report.html"


def write_report(run: Path) -> Path:
    """Writes ``run/report.html`` from what the run directory holds, and returns its path.

    A run without any scored candidate, or one that is still running, gets a page too.

    :raises nas.errors.UserError: the directory is no run, or one of its files cannot be read.
    """
    from nas.runs.reader import read_run

    record = read_run(run)
    try:
        from nas.report.page import render
    except ModuleNotFoundError as error:
        raise UserError(f"the report needs {error.name}, which is not installed: pip install {error.name}") from None
    path = run / PAGE_NAME
    # A name read from JSON may hold half a surrogate pair, which UTF-8 has no bytes for: written as a reference.
    path.write_text(render(record), encoding="utf-8", errors="xmlcharrefreplace")
    return path
