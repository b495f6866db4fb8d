"""The report of a run as one HTML page: the best cell, the course of the search, and how reliable the result is.

``write_report(run)`` reads a run directory and writes ``report.html`` into it: a single file without scripts that needs
no network. The command ``python -m nas.report RUN`` does the same. matplotlib and jinja2 are imported only when a page
is written.
"""

from __future__ import annotations

from pathlib import Path

from nas.errors import UserError
from nas.files import write

__all__ = ["write_report"]

PAGE_NAME = "report.html"


def write_report(run: Path) -> Path:
    """Write ``run/report.html`` from the files of the run directory, and return its path.

    A page is also written for a run that is still in progress or has no scored candidate.

    :raises nas.errors.UserError: the directory is not a run directory, or one of its files cannot be read.
    """
    from nas.runs.reader import read_run

    record = read_run(run)
    try:
        from nas.report.page import render
    except ModuleNotFoundError as error:
        raise UserError(f"the report needs {error.name}, which is not installed: pip install {error.name}") from None
    path = run / PAGE_NAME
    write(path, render(record))
    return path
