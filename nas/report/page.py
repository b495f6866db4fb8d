"""Renders the page of a run: computes the values that the template shows, section by section."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jinja2
from markupsafe import Markup

from nas.report import charts, wording
from nas.report.diagrams import KINDS, diagrams, short_lines
from nas.report.drawing import draw
from nas.report.published import CELLS, HALF_WIDTH, OWN, PUBLISHED
from nas.report.ranking import TOP, Ranked, is_ranked, operation_shares, ranking, size_correlation, visible_range
from nas.runs.reader import RunRecord, ScoredBy
from proxies.spelling import base_name
from search_spaces.cells.notation import SHORT_NAMES
from searchers.base import Trial

CHARTED = 3  # number of proxies with charts; the tables show all proxies
LISTED = 10  # number of candidates in the list of the best
FEWEST_FOR_OPERATIONS = 20  # candidates needed to compare operations; with fewer, the best tenth is a single cell
REASONS = 12  # number of reasons in the table of failures
MAX_LINKS = 80  # a cell with more links is not drawn

SIZES: tuple[tuple[str, Callable[[Ranked], int]], ...] = (
    ("parameters", lambda trial: trial.params),
    ("MACs", lambda trial: trial.macs),
)


def render(record: RunRecord) -> str:
    """The HTML text of a run's page."""
    ranked = ranking(record.trials, record.proxies)
    best = record.best or (ranked[0] if ranked else None)
    drawings = _drawings(best)
    run_names = [proxy.name for proxy in record.proxies]
    known = {name for row in PUBLISHED for name in (row.name, row.kin) if name}
    template = _environment().get_template("template.html")
    return template.render(
        record=record,
        table=_table(record),
        space=record.section("configuration").get("space"),
        searcher=record.section("configuration").get("searcher"),
        best=best,
        ranked=ranked,
        notes=_notes(record, ranked, best),
        facts=_facts(record, ranked, best),
        drawings=drawings,
        used_kinds={box.kind for drawing in drawings for box in drawing.labels},
        kinds={kind: title for kind, (title, _) in KINDS.items()},
        panels=[_panel(record, ranked, proxy, best) for proxy in record.proxies[:CHARTED]] if ranked else [],
        sizes=_sizes(ranked, record.proxies),
        compared=_compared(record),
        listed=ranked[:LISTED],
        short_names=[(short, name) for name, short in SHORT_NAMES.items()],
        operations=_operations(ranked),
        failures=_failures(record),
        published=PUBLISHED,
        published_cells=CELLS,
        published_half_width=HALF_WIDTH,
        run_names=run_names,
        run_bases=[base_name(name) for name in run_names if base_name(name) != name],
        unpublished=[name for name in run_names if name not in known],
        own=OWN,
        probe_images=record.section("data").get("probe_images"),
        command_name=str(record.manifest.get("command") or "search"),
        command=wording.command(record),
        tables=_tables(record),
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nas", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        amount=wording.amount, score=wording.score, signed=wording.signed, short_lines=short_lines
    )
    return environment


def _table(record: RunRecord) -> dict[str, str]:
    """Facts about the table from which the run's scores were looked up; empty if the scores are from proxies."""
    table = record.section("table")
    names = ("metric", "description", "source") if table else ()
    return {name: str(table.get(name, "not recorded")) for name in names}


def _notes(record: RunRecord, ranked: list[Ranked], best: Trial[str] | None) -> list[str]:
    """Warnings at the top of the page, such as that the run is incomplete."""
    notes = []
    state = {
        "running": "This search had not ended when the page was written: all figures are of the candidates so far.",
        "interrupted": "This search was interrupted: all figures are of the candidates up to then. It can be resumed.",
        "failed": "This search ended with an error: all figures are of the candidates up to then.",
    }
    if record.manifest.get("status") in state:
        notes.append(state[record.manifest["status"]])
    if record.torn:
        notes.append("The last line of trials.jsonl was cut off in the middle of being written; it is left out.")
    if best is not None and ranked and best.key != ranked[0].key:
        notes.append(f"best.json names candidate {best.id}; by trials.jsonl, candidate {ranked[0].id} ranks first.")
    for proxy in record.proxies:
        if not proxy.recorded:
            notes.append(f"The run does not record which direction of {proxy.name} is better; higher is assumed.")
        if proxy.relative:
            notes.append(f"{proxy.name} compares the candidates of this run: in another run the scores would differ.")
    return notes


def _facts(record: RunRecord, ranked: list[Ranked], best: Trial[str] | None) -> list[tuple[str, str, str]]:
    """The key figures at the top of the page: name, value and explanation of each."""
    facts = []
    if best is not None:
        for proxy in record.proxies[:CHARTED]:
            if proxy.name in best.scores:
                facts.append(_score_fact(proxy, best.scores[proxy.name]))
        network = "of the network as trained" if record.section("table") else "of the network as scored"
        facts.append(("parameters", wording.amount(best.params), network))
        facts.append(("MACs", wording.amount(best.macs), "multiply-accumulates for one image"))
    ok = sum(trial.status == "ok" for trial in record.trials)
    facts.append(("candidates", f"{len(record.trials):,}", f"{ok:,} scored, {len(ranked):,} of them distinct"))
    seconds = wording.finite(record.manifest.get("seconds"))
    facts.append(("wall time", "not recorded" if seconds is None else wording.duration(seconds), "start to end"))
    if not record.section("table"):  # looking scores up in a table takes no time worth showing
        days, unit = wording.search_cost(record)
        facts.append((f"search, {unit}", days, "sum of the candidates' wall times, each on one thread"))
    return facts


def _score_fact(proxy: ScoredBy, score: float) -> tuple[str, str, str]:
    better = "higher is better" if proxy.sign > 0 else "lower is better"
    if proxy.unit == "percent":
        return proxy.name, f"{score:.2f} %", f"measured, {better}"
    return f"score, {proxy.name}", wording.score(score), better


def _drawings(best: Trial[str] | None) -> list[Any]:
    if best is None:
        return []
    cells = diagrams(best.genotype) or diagrams(best.key)
    return [draw(cell) for cell in cells if len(cell.links) <= MAX_LINKS]


def _panel(record: RunRecord, ranked: list[Ranked], proxy: ScoredBy, best: Trial[str] | None) -> dict[str, Any]:
    """The charts of one proxy, with remarks. They are marked as safe HTML, since charts.py escapes all text in them."""
    scored = [trial for trial in record.trials if is_ranked(trial, record.proxies)]
    chosen = -1 if best is None else best.id
    if not any(trial.id == chosen for trial in ranked):  # the ranking holds another trial of the same cell
        chosen = next((trial.id for trial in ranked if best is not None and trial.key == best.key), -1)
    pictures = [charts.progress(record.trials, scored, proxy, chosen)]
    if any(trial.params for trial in ranked):
        pictures.append(charts.scatter(ranked, proxy, chosen))
    pictures.append(charts.histogram(ranked, proxy, chosen))
    scores = [trial.scores[proxy.name] for trial in ranked]
    return {
        "proxy": proxy,
        "charts": [Markup(picture) for picture in pictures],
        "equal": len(scores) > 1 and len(set(scores)) == 1,
        "ties": len(scores) - len(set(scores)),
        "outside": visible_range(scores, proxy.sign).outside,
    }


def _sizes(ranked: list[Ranked], proxies: tuple[ScoredBy, ...]) -> list[dict[str, Any]]:
    rows = []
    for proxy in proxies:
        for size, of in SIZES:
            correlation = size_correlation(ranked, proxy, of)
            finding = wording.size_finding(correlation, size)
            rows.append({"proxy": proxy.name, "size": size, "correlation": correlation, "finding": finding})
    return rows if ranked else []


def _compared(record: RunRecord) -> dict[str, Any] | None:
    """What was found of the winner among random and published cells; None if it was not compared with them."""
    found = record.comparison
    return None if found is None else {"sentences": found.sentences, "chart": Markup(charts.strip(found))}


def _operations(ranked: list[Ranked]) -> dict[str, Any] | None:
    """Shares of operations in the best tenth and in all candidates; None if a genotype is in no known notation."""
    if len(ranked) < FEWEST_FOR_OPERATIONS:
        return {"fewest": FEWEST_FOR_OPERATIONS}
    chosen = [[name for cell in diagrams(trial.genotype) for name in cell.operations] for trial in ranked]
    if not all(chosen):
        return None
    top = round(TOP * len(ranked))
    shares = operation_shares(chosen, top)
    return {
        "chart": Markup(charts.operations(shares)),
        "top": top,
        "shares": shares,
        "more": [share.operation for share in shares if share.top > share.high],
        "fewer": [share.operation for share in shares if share.top < share.low],
    }


def _failures(record: RunRecord) -> list[dict[str, Any]]:
    """Candidates without a usable score, grouped by reason, the most frequent first.

    Reasons that differ only in numbers are one group.
    """
    groups: dict[tuple[str, str], list[Trial[str]]] = {}
    for trial in record.trials:
        if not is_ranked(trial, record.proxies):
            reason = trial.error or (
                "no finite score from every proxy" if trial.status == "ok" else "no reason recorded"
            )
            groups.setdefault((trial.status, re.sub(r"\d[\d.,_e+-]*", "#", reason)), []).append(trial)
    rows = [
        {
            "status": "unranked" if status == "ok" else status,
            "count": len(trials),
            "reason": (trials[0].error or pattern)[:300],
            "ids": ", ".join(str(trial.id) for trial in trials[:5]) + (", ..." if len(trials) > 5 else ""),
        }
        for (status, pattern), trials in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]
    return rows[:REASONS]


def _tables(record: RunRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    """Configuration, data, versions and hardware of the run, as tables of names and values."""
    manifest = record.manifest
    times = {
        "command": manifest.get("command"),
        "status": manifest.get("status"),
        "started": manifest.get("started"),
        "ended": manifest.get("ended"),
        "seconds": manifest.get("seconds"),
        "git commit": manifest.get("git_commit"),
        **record.section("summary"),
    }
    sections = {
        "Configuration": record.section("configuration"),
        "Run": {name: value for name, value in times.items() if value is not None},
        "Data": record.section("data"),
        "Table": record.section("table"),
        "Versions": record.section("versions"),
        "Hardware": record.section("hardware"),
    }
    return [
        (title, [(str(name), wording.setting(value)) for name, value in values.items()])
        for title, values in sections.items()
        if values
    ]
