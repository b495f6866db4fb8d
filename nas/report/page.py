"""Renders the page of a run: computes the values that the template shows, section by section."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from nas.report import charts, wording
from nas.report.diagrams import KINDS, diagrams, short_lines
from nas.report.drawing import draw
from nas.report.published import CELLS, HALF_WIDTH, OWN, PUBLISHED
from nas.report.ranking import (
    TOP,
    Ranked,
    directions,
    is_ranked,
    operation_shares,
    ranking,
    size_correlation,
    visible_range,
)
from nas.runs.architecture import cautions
from nas.runs.reader import RunRecord, ScoredBy
from nas.searching.objectives import COUNTED, MEASURED
from proxies.spelling import base_name
from search_spaces.cells.notation import SHORT_NAMES
from searchers.base import Trial
from searchers.fronts import Front, front_of, spread

CHARTED = 3  # number of proxies with charts; the tables show all proxies
LISTED = 10  # number of candidates in the list of the best
FRONT_LISTED = 30  # the same where the list is that of a front
FEWEST_FOR_OPERATIONS = 20  # candidates needed to compare operations; with fewer, the best tenth is a single cell
REASONS = 12  # number of reasons in the table of failures
MAX_LINKS = 80  # a cell with more links is not drawn

SIZES: tuple[tuple[str, Callable[[Ranked], int]], ...] = (
    ("parameters", lambda trial: trial.params),
    ("MACs", lambda trial: trial.macs),
)


def render(record: RunRecord) -> str:
    """The HTML text of a run's page."""
    ranked = ranking(record.trials, record.proxies, record.objectives)
    front = front_of(ranked, directions(record.objectives)) if ranked and len(record.objectives) > 1 else None
    first = front.knee if front else ranked[0] if ranked else None
    best = record.best or first
    drawings = _drawings(record, () if best is None else (best.genotype, best.key))
    last = _drawings(record, (record.steps[-1]["cell"],) if record.steps else ())
    run_names = [proxy.name for proxy in record.proxies if proxy.name not in MEASURED]
    charted = [proxy for proxy in record.proxies if not _is_size(proxy)]
    known = {name for row in PUBLISHED for name in (row.name, row.kin) if name}
    template = _environment().get_template("template.html")
    return template.render(
        record=record,
        table=_table(record),
        space=record.section("configuration").get("space"),
        searcher=record.section("configuration").get("searcher"),
        best=best,
        ranked=ranked,
        first=first,
        front=front,
        pareto=_pareto(record, ranked, front) if front else [],
        notes=_notes(record, first, best),
        facts=_facts(record, ranked, best),
        drawings=drawings,
        used_kinds={box.kind for drawing in drawings for box in drawing.labels},
        steps=record.steps,
        steps_chart=Markup(charts.architecture(record.steps)) if record.steps else None,
        cautions=cautions(record.steps),
        last_drawings=last,
        kinds={kind: title for kind, (title, _) in KINDS.items()},
        panels=[_panel(record, ranked, proxy, best) for proxy in charted[:CHARTED]] if ranked else [],
        sizes=_sizes(ranked, record.proxies),
        compared=_compared(record),
        listed=_listed(record, front) if front else ranked[:LISTED],
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
    objectives = ", ".join(objective.name for objective in record.objectives if objective.unit == "percent")
    return {name: str(table.get(name, objectives or "not recorded")) for name in names}


def _notes(record: RunRecord, first: Trial[str] | None, best: Trial[str] | None) -> list[str]:
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
    if best is not None and first is not None and best.key != first.key:
        place = "is the knee of the front" if len(record.objectives) > 1 else "ranks first"
        notes.append(f"best.json names candidate {best.id}; by trials.jsonl, candidate {first.id} {place}.")
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
            if proxy.name in best.scores and not _is_size(proxy):
                facts.append(_score_fact(proxy, best.scores[proxy.name]))
        network = "of the network as trained" if record.section("table") else "of the network as scored"
        facts.append(("parameters", wording.amount(best.params), network))
        facts.append(("MACs", wording.amount(best.macs), "multiply-accumulates for one image"))
    ok = sum(trial.ranked for trial in record.trials)
    reduced = sum(trial.fidelity < 1 for trial in record.trials)
    others = f"; {reduced:,} others at a reduced size, which are not ranked" if reduced else ""
    facts.append(("candidates", f"{len(record.trials):,}", f"{ok:,} scored, {len(ranked):,} of them distinct{others}"))
    seconds = wording.finite(record.manifest.get("seconds"))
    facts.append(("wall time", "not recorded" if seconds is None else wording.duration(seconds), "start to end"))
    if not record.section("table"):  # looking scores up in a table takes no time worth showing
        days, unit = wording.search_cost(record)
        besides = "; the supernet's steps are not in it" if record.steps else ""
        facts.append((f"search, {unit}", days, f"sum of the candidates' wall times, each on one thread{besides}"))
    return facts


def _is_size(proxy: ScoredBy) -> bool:
    """Whether it is the number of parameters or MACs as an objective, which the page states anyway."""
    return proxy.name in COUNTED and proxy.direction == "minimize"


def _score_fact(proxy: ScoredBy, score: float) -> tuple[str, str, str]:
    better = "higher is better" if proxy.sign > 0 else "lower is better"
    if proxy.unit == "percent":
        return proxy.name, f"{score:.2f} %", f"measured, {better}"
    return f"score, {proxy.name}", wording.score(score), better


def _drawings(record: RunRecord, texts: Sequence[str]) -> list[Any]:
    """The cells of the first of the texts that is in a known notation."""
    layers = record.section("configuration").get("layers")
    cells = next((cells for text in texts if (cells := diagrams(text, layers))), ())
    return [draw(cell) for cell in cells if len(cell.links) <= MAX_LINKS]


def _listed(record: RunRecord, front: Front[str]) -> list[Trial[str]]:
    return spread(front.trials, directions(record.objectives), FRONT_LISTED, front.knee.id)


def _pareto(record: RunRecord, ranked: list[Ranked], front: Front[str]) -> list[Markup]:
    """A chart of each other objective with the first one."""
    y, *others = record.objectives
    return [Markup(charts.pareto(ranked, front, x, y)) for x in others]


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
    for proxy in (each for each in proxies if not _is_size(each)):
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
        scored_small = trial.status == "ok" and not trial.ranked
        if not scored_small and not is_ranked(trial, record.proxies):
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
