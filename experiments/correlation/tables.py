"""The figures as a CSV file, as Markdown and on the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table as Drawn

from experiments.correlation.analysis import REFERENCE, Finding
from experiments.rank_statistics import LEVEL, Estimate

FEW_CELLS = 30  # with fewer cells, bootstrap intervals of a rank correlation are not reliable
ESTIMATES = ("tau", "rho", "top", "gain", "partial")
COLUMNS = {
    "tau": f"tau ({LEVEL:.0f} %)",
    "rho": "rho",
    "top": "tau, top quarter",
    "gain": "tau - tau(params)",
    "partial": "partial tau given params",
    "seeds": "tau by seed",
    "cells": "cells",
    "missing": "no score",
    "ties": "tied pairs",
    "seconds": "s/cell alone",
}


def as_csv(findings: Sequence[Finding]) -> str:
    """CSV text with a row for each finding; undefined figures are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    counts = ("cells", "missing", "ties", "top_cells")
    ends = [f"{name}{end}" for name in ESTIMATES for end in ("", "_low", "_high")]
    writer.writerow(["name", "kind", "direction", *counts, *ends, "seconds_alone", "tau_by_seed"])
    for each in findings:
        estimates: list[Estimate] = [getattr(each, name) for name in ESTIMATES]
        writer.writerow(
            [
                each.name, each.kind, each.direction, *(getattr(each, name) for name in counts),
                *(_digits(value) for e in estimates for value in (e.value, e.low, e.high)),
                "" if each.seconds is None else f"{each.seconds:.5f}",
                " ".join(_digits(value) for value in each.tau_by_seed),
            ]
        )  # fmt: skip
    return text.getvalue()


def _digits(value: float) -> str:
    return f"{value:.6f}" if np.isfinite(value) else ""


def in_words(value: Estimate) -> str:
    """``+0.414 (+0.33 to +0.49)``."""
    if not np.isfinite(value.value):
        return "-"
    ends = "" if not np.isfinite(value.low) else f" ({value.low:+.2f} to {value.high:+.2f})"
    return f"{value.value:+.3f}{ends}"


def rows(findings: Sequence[Finding]) -> tuple[list[str], list[list[str]]]:
    """The heading and the cells of the table, as text; with taus by seed only if there are several seeds."""
    heads = {name: head for name, head in COLUMNS.items() if name != "seeds" or len(findings[0].tau_by_seed) > 1}
    told = []
    for each in findings:
        texts = {
            **{name: in_words(getattr(each, name)) for name in ESTIMATES},
            "seeds": " ".join(f"{value:+.3f}" if np.isfinite(value) else "-" for value in each.tau_by_seed),
            "cells": f"{each.cells:,}",
            "missing": f"{each.missing:,}",
            "ties": f"{each.ties:,}",
            "seconds": "-" if each.seconds is None else f"{each.seconds:.2g}",
        }
        told.append([each.name, *(texts[name] for name in heads)])
    return ["", *heads.values()], told


def as_markdown(findings: Sequence[Finding], facts: dict[str, Any]) -> str:
    """The table as Markdown, with notes, command line, hardware and versions, for a page of results."""
    head, body = rows(findings)
    bold = {each.name for each in findings if each.kind == "baseline"}
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, *cells in body:
        shown = f"**{name}**" if name in bold else name if name == REFERENCE else f"`{name}`"
        lines.append(f"| {' | '.join([shown, *cells])} |")
    lines += ["", *(f"{note}\n" for note in notes(findings, facts))]
    lines += ["```sh", facts["command_line"], "```", ""]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    hardware = facts["hardware"]
    lines += [f"{hardware.get('processor', hardware['machine'])}, {hardware['cores']} cores. {versions}.", ""]
    return "\n".join(lines)


def notes(findings: Sequence[Finding], facts: dict[str, Any]) -> list[str]:
    """Notes on what was measured and how, of one or two sentences each."""
    cells, table, run = facts["cells"], facts["table"], facts["configuration"]
    networks = "" if cells["networks"] == cells["count"] else f"; {cells['networks']:,} different networks"
    seeds = f"seeds {run['seed']} to {run['seed'] + run['seeds'] - 1}" if run["seeds"] > 1 else f"seed {run['seed']}"
    said = [
        f"{table['description']}. Against {table['metric']}, percent. Cells: {cells['rule']}{networks}.",
        f"{facts['images_in_words']}; {seeds}. In brackets {LEVEL:.0f} % percentile intervals of {run['bootstrap']:,}"
        " resamples of the cells, the same for all rows; bold: baselines that only count.",
        "tau-b and rho have the sign of the proxy's own direction. Seconds: one thread, the proxy by itself, building"
        " the network included; median over a few cells.",
    ]
    if cells["count"] < FEW_CELLS:
        said.append(f"Only {cells['count']} cells: the intervals themselves are rough, and tend to be too narrow.")
    said += [facts["warning"]] if facts.get("warning") else []
    for each in findings:
        if each.reasons:
            why = max(each.reasons, key=lambda reason: each.reasons[reason])
            total = sum(each.reasons.values())
            said.append(f"{each.name}: {total:,} scores failed, {each.missing:,} cells left out; most often: {why}")
    return said


def drawn(findings: Sequence[Finding], facts: dict[str, Any]) -> Drawn:
    """The main figures as a table for the terminal; the files hold the others."""
    title = f"{facts['table']['metric']} of {facts['cells']['count']:,} cells, rank correlation with the scores"
    caption = "top 1/4: tau among the best cells; - params: difference of tau; given: partial tau given params"
    table = Drawn(
        title=title, title_justify="left", caption=f"{caption}; *: {LEVEL:.0f} % interval without 0",
        caption_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    heads = ["", "tau", f"{LEVEL:.0f} %", "top 1/4", "- params", "given", "s/cell"]
    if failing := any(each.missing for each in findings):
        heads.append("failed")
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i == 0 else "right", no_wrap=i > 0, overflow="fold")
    styles = {"baseline": "yellow", "reference": "dim"}
    for each in findings:
        ends = f"{each.tau.low:+.2f} {each.tau.high:+.2f}".replace("0.", ".") if np.isfinite(each.tau.low) else "-"
        value = f"{each.tau.value:+.3f}" if np.isfinite(each.tau.value) else "-"
        others = [_starred(figure) for figure in (each.top, each.gain, each.partial)]
        seconds = "-" if each.seconds is None else f"{each.seconds:.3f}" if each.seconds >= 0.001 else "<.001"
        failed = [f"{each.missing:,}"] if failing else []
        name = each.name.replace("(", "\n(", 1)  # options under the name
        table.add_row(name, value, ends, *others, seconds, *failed, style=styles.get(each.kind))
    return table


def _starred(value: Estimate) -> str:
    """A figure, with a star if its interval does not contain 0."""
    if not np.isfinite(value.value):
        return "-"
    return f"{value.value:+.3f}{'*' if value.low > 0 or value.high < 0 else ' '}"
