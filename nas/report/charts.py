"""The charts of a page as inline SVG, drawn with matplotlib's objects (not with pyplot, which keeps global state).

Lines and text are drawn in placeholder colours, which are then replaced by the template's CSS variables, so that the
same SVG fits the light and the dark theme.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from types import MappingProxyType
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas.report import wording
from nas.report.ranking import OperationShare, Ranked, VisibleRange, best_so_far, directions, visible_range
from nas.runs.architecture import Step
from nas.runs.comparison import Comparison
from nas.runs.reader import ScoredBy
from searchers.base import Trial
from searchers.fronts import Front, front_of

# Placeholder colours, which occur nowhere else in a picture, and the CSS variables that replace them.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
POINT, BEST, BAD, BAND = "#050505", "#060606", "#070707", "#080808"
VARIABLES = {
    INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper",
    POINT: "--point", BEST: "--best", BAD: "--bad", BAND: "--band",
}  # fmt: skip

SIZE = (4.2, 3.1)  # inches; at 72 units an inch about the width of a phone
MANY_POINTS = 5000  # above this, points are drawn smaller and as one pixel image
MANY_COLOUR = "#4c84c4"  # of points in a pixel image, which CSS cannot colour; visible on light and dark background


def plain(text: str, length: int = 28) -> str:
    """A name that matplotlib can draw: printable ASCII of at most ``length`` characters."""
    text = "".join(each if each.isascii() and each.isprintable() else "?" for each in text)
    return text if len(text) <= length else f"{text[: length - 2]}.."


def progress(trials: Sequence[Trial[str]], scored: Sequence[Ranked], proxy: ScoredBy, best: int) -> str:
    """Every score in the order of proposal, the best score so far, and at the bottom the candidates without a score.

    :param scored: the trials with a finite score, sorted by id. :param best: the id of the best cell.
    """
    figure, axes = _axes("candidate, in the order of proposal", _score_axis(proxy))
    ids, scores = [trial.id for trial in scored], [trial.scores[proxy.name] for trial in scored]
    _points(axes, ids, scores)
    axes.step(ids, best_so_far(scores, proxy.sign), where="post", color=INK, linewidth=1.2, label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    end = trials[-1].id
    axes.set_xlim(-0.03 * end - 0.5, 1.03 * end + 0.5)
    _mark_best(axes, [(trial.id, trial.scores[proxy.name]) for trial in scored if trial.id == best])
    for status, marker, colour in (("failed", "x", BAD), ("infeasible", "|", MUTED)):
        without = [trial.id for trial in trials if trial.status == status]
        if without:
            foot = axes.get_xaxis_transform()
            axes.plot(without, [0.03] * len(without), marker, color=colour, markersize=5, label=status, transform=foot)
    _show(axes, visible_range(scores, proxy.sign), foot=0.1)
    return _svg(figure, axes, f"Score {plain(proxy.name)} of every candidate in the order of proposal")


def scatter(ranked: Sequence[Ranked], proxy: ScoredBy, best: int) -> str:
    """Score against number of parameters, which must be recorded for at least one candidate."""
    known = [trial for trial in ranked if trial.params]
    unit, word = (1e6, "millions") if max(trial.params for trial in known) >= 1e6 else (1e3, "thousands")
    figure, axes = _axes(f"parameters, {word}", _score_axis(proxy))
    scores = [trial.scores[proxy.name] for trial in known]
    _points(axes, [trial.params / unit for trial in known], scores)
    _mark_best(axes, [(trial.params / unit, trial.scores[proxy.name]) for trial in known if trial.id == best])
    _show(axes, visible_range(scores, proxy.sign), foot=0.05)
    return _svg(figure, axes, f"Score {plain(proxy.name)} against parameters")


def pareto(ranked: Sequence[Ranked], front: Front[str], x: ScoredBy, y: ScoredBy) -> str:
    """Two objectives of all candidates, with the front over them; a point that is hovered over shows its values.

    The step line bounds what the candidates reach by these two objectives alone.
    """
    figure, axes = _axes(_score_axis(x), _score_axis(y))
    scores = {each: [trial.scores[each.name] for trial in ranked] for each in (x, y)}
    shown = {each: _with_front(visible_range(scores[each], each.sign), front, each) for each in (x, y)}
    among = {trial.id for trial in front.trials}
    inside = [
        trial
        for trial in ranked
        if trial.id not in among
        and all(shown[each].low <= trial.scores[each.name] <= shown[each].high for each in (x, y))
    ]
    groups = {"candidates": inside, "front": front.trials, "knee": [front.knee]}

    def places(trials: Sequence[Trial[str]]) -> tuple[list[float], list[float]]:
        return [trial.scores[x.name] for trial in trials], [trial.scores[y.name] for trial in trials]

    _points(axes, *places(inside), gid="candidates")
    line = sorted(front_of(front.trials, directions((x, y))).trials, key=lambda trial: trial.scores[x.name])
    axes.step(*places(line), where="pre" if x.sign > 0 else "post", color=INK, linewidth=1.2)
    axes.plot(*places(front.trials), "o", color=INK, markersize=4.5, label="front", gid="front")
    axes.plot(
        *places([front.knee]), "o", color=BEST, markersize=8, markeredgecolor=PAPER, zorder=5, gid="knee",
        label=f"knee, candidate {front.knee.id}",
    )  # fmt: skip
    _show(axes, shown[x], foot=0.06, axis="x")
    if not shown[x].logarithmic:
        axes.xaxis.set_major_locator(MaxNLocator(5, prune="upper"))  # the last label would be cut off
    _show(axes, shown[y], foot=0.06)
    hovered = {name: [_values(trial, front) for trial in trials] for name, trials in groups.items()}
    if len(inside) > MANY_POINTS:  # drawn as a pixel image
        del hovered["candidates"]
    return _svg(figure, axes, f"The front of {plain(y.name)} against {plain(x.name)}", hovered)


def _with_front(shown: VisibleRange, front: Front[str], axis: ScoredBy) -> VisibleRange:
    scores = [trial.scores[axis.name] for trial in front.trials]
    return dataclasses.replace(shown, low=min(shown.low, *scores), high=max(shown.high, *scores))


def _values(trial: Trial[str], front: Front[str]) -> str:
    values = ", ".join(f"{name} {wording.score(trial.scores[name])}" for name in front.best)
    return f"candidate {trial.id}{' (knee)' if trial.id == front.knee.id else ''}: {values}"


def histogram(ranked: Sequence[Ranked], proxy: ScoredBy, best: int) -> str:
    """The distribution of the scores, with the score of the best cell marked."""
    figure, axes = _axes(_score_axis(proxy), "candidates")
    scores = np.array([trial.scores[proxy.name] for trial in ranked])
    shown = visible_range(scores.tolist(), proxy.sign)
    scores = scores[(scores >= shown.low) & (scores <= shown.high)]
    count = int(np.clip(1.5 * np.sqrt(len(scores)), 5, 40))
    if shown.logarithmic:
        axes.set_xscale("log")
        edges = np.geomspace(shown.low, shown.high, count + 1)
    else:
        margin = 0.05 * abs(shown.low) or 0.5
        edges = np.array([-1, 1]) * margin + shown.low if shown.flat else np.linspace(shown.low, shown.high, count + 1)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.hist(scores, bins=edges.tolist(), color=POINT, alpha=0.75, edgecolor=PAPER, linewidth=0.8)
    for trial in ranked:
        if trial.id == best:
            axes.axvline(trial.scores[proxy.name], color=BEST, linewidth=1.8, label="best cell")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure, axes, f"Histogram of the score {plain(proxy.name)}")


def strip(comparison: Comparison) -> str:
    """The distribution of the scores of random cells, with those of the winner and of published cells marked."""
    figure, axes = _axes("\n".join(textwrap.wrap(plain(comparison.objective, 60), 32)), "random cells", height=2.0)
    ends = [comparison.winner, *(np.quantile(comparison.random, [0.02, 0.98]) if comparison.random else ())]
    margin = 0.08 * (max(ends) - min(ends)) or 1.0
    low, high = min(ends) - margin, max(ends) + margin  # a few bad cells would compress all others into a line
    axes.hist(
        comparison.random, bins=20, range=(low, high), color=POINT, alpha=0.75, edgecolor=PAPER, linewidth=0.8,
        label="random cells",
    )  # fmt: skip
    published, foot = list(comparison.published.values()), axes.get_xaxis_transform()
    shown = [value for value in published if low <= value <= high]
    if published:
        label = "published" if len(shown) == len(published) else f"published ({len(published) - len(shown)} outside)"
        axes.plot(shown, [0.04] * len(shown), "^", color=INK, markersize=6, label=label, transform=foot)
    axes.set_xlim(low, high)
    axes.axvline(comparison.winner, color=BEST, linewidth=1.8, label="best cell")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure, axes, "Scores of random cells of the size of the best cell")


def operations(shares: Sequence[OperationShare]) -> str:
    """Each operation's share of all edges: among the best candidates, among all, and the range expected by chance."""
    figure, axes = _axes("share of edges, percent", "", height=1.1 + 0.32 * len(shares))
    y = np.arange(len(shares))[::-1]
    low, high = (np.array([100 * getattr(share, name) for share in shares]) for name in ("low", "high"))
    axes.barh(y, high - low, left=low, height=0.62, color=BAND, label="by chance")
    axes.plot([100 * share.all for share in shares], y, "|", color=INK, markersize=11, label="all")
    axes.plot([100 * share.top for share in shares], y, "o", color=BEST, markersize=6, label="best tenth")
    axes.set_yticks(y, [plain(share.operation) for share in shares], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(left=0)
    return _svg(figure, axes, "Operations among the best candidates and among all")


def architecture(steps: Sequence[Step]) -> str:
    """Mean entropy of the architecture weights and skip connections of the derived cell, after each step."""
    figure, axes = _axes("step", "entropy of the weights, nats")
    numbers = [step["step"] for step in steps]
    entropies = [step["entropy"] for step in steps]
    axes.plot(numbers, entropies, "-", color=POINT, linewidth=1.6, label="entropy")
    axes.set_ylim(0, 1.15 * max(entropies) or 1.0)
    skips = axes.twinx()
    skips.step(numbers, [step["skip_connections"] for step in steps], where="mid", color=BAD, linewidth=1.4)
    axes.plot([], [], "-", color=BAD, label="skip connections")  # for the legend
    skips.set_ylabel(f"skip connections, of {steps[-1]['edges']} edges", color=MUTED, parse_math=False)
    skips.set_ylim(0, steps[-1]["edges"])
    skips.tick_params(which="both", color=GRID, labelcolor=MUTED)
    skips.patch.set_visible(False)
    for spine in skips.spines.values():
        spine.set_visible(False)
    for each in (axes.xaxis, skips.yaxis):
        each.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure, axes, "Entropy of the architecture weights and skip connections after each step")


def _axes(x: str, y: str, height: float = SIZE[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.subplots()
    axes.patch.set_visible(False)
    axes.set_xlabel(x, color=MUTED, parse_math=False)
    axes.set_ylabel(y, color=MUTED, parse_math=False)
    axes.tick_params(which="both", color=GRID, labelcolor=MUTED)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
    return figure, axes


def _score_axis(proxy: ScoredBy) -> str:
    better = plain(proxy.unit) or ("higher" if proxy.sign > 0 else "lower") + " is better"
    return "\n".join(textwrap.wrap(f"{plain(proxy.name, 60)}, {better}", 32))


def _points(axes: Axes, x: Sequence[float], y: Sequence[float], gid: str | None = None) -> None:
    many = len(x) > MANY_POINTS
    colour, size = (MANY_COLOUR, 2.0) if many else (POINT, 6.0)
    axes.plot(x, y, ".", color=colour, alpha=0.55, markersize=size, label="candidate", rasterized=many, gid=gid)


def _mark_best(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    for x, y in points:
        axes.plot([x], [y], "o", color=BEST, markersize=8, markeredgecolor=PAPER, label="best cell", zorder=5)


def _show(axes: Axes, shown: VisibleRange, foot: float, axis: Literal["x", "y"] = "y") -> None:
    """Set the range of a score axis; ``foot`` is the share of it that is left free at its low end for marks."""
    low, high = shown.low, shown.high
    if shown.logarithmic:
        axes.set(**{f"{axis}scale": "log"})
        axes.set(**{f"{axis}lim": (low * (low / high) ** foot, high * (high / low) ** 0.06)})
    elif not shown.flat:
        axes.set(**{f"{axis}lim": (low - foot * (high - low), high + 0.06 * (high - low))})


def _svg(
    figure: Figure, axes: Axes, description: str, hovered: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> str:
    """The figure as SVG that can be inlined in a page with other figures.

    Size, fonts, metadata and style sheets are removed, and its ids get a prefix that is unique in the page.

    :param hovered: by gid of a group of points, the texts shown when they are hovered over.
    """
    if axes.get_legend_handles_labels()[1]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, frameon=False, labelcolor=MUTED, fontsize=9,
            handletextpad=0.3, columnspacing=1.0, borderaxespad=0.2,
        )  # fmt: skip
    buffer = StringIO()
    # Text is kept as text, so that it can be searched and copied. A fixed salt: equal runs give equal pages.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r"(?s)<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg[svg.index("<svg") :])
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)
    for gid, texts in hovered.items():
        svg = _with_titles(svg, gid, texts)
    prefix = hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    opening = f'<svg {view[0]} class="chart" role="img" aria-label="{escape(description)}">'
    svg = opening + svg[svg.index(">") + 1 :]
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, f"var({variable})")
    return svg


def _with_titles(svg: str, gid: str, texts: Sequence[str]) -> str:
    """The points of a group, as many as there are texts, with a title each."""
    if not texts:
        return svg
    before, group, after = svg.partition(f'<g id="{gid}">')
    left = iter(texts)
    titled = re.sub(
        r"(<use [^>]*?)/>", lambda use: f"{use[1]}><title>{escape(next(left))}</title></use>", after, count=len(texts)
    )
    return before + group + titled
