"""``correlation.png``: every tau with its interval, and the best few scores against accuracy."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import rankdata

from experiments.correlation.analysis import Finding
from experiments.rank_statistics import LEVEL, Floats

COLOURS = {"proxy": "#4c84c4", "baseline": "#d9822b", "reference": "#8c8c8c"}
INK, GRID = "#333333", "#dddddd"
PANELS = 6
HOPELESS = 0.01  # share of the cells, the least accurate, that may lie below the plots' range
BAR_INCHES = 0.235
FEWEST_ROWS = 12
NAME_WIDTH = 26  # characters in a line


def drawn(findings: Sequence[Finding], goodness: Mapping[str, Floats], accuracy: Floats, metric: str) -> bytes:
    """The picture in PNG.

    :param findings: best first. :param goodness: by name ``(cells,)``, higher is better, NaN where there is none.
    """
    shown = [each for each in findings if np.isfinite(each.tau.value)]
    lines = max((wrapped(each.name, NAME_WIDTH).count("\n") + 1 for each in shown), default=1)
    height = max(5.2, 1.5 + BAR_INCHES * len(shown) * max(1, 0.7 * lines))
    figure = Figure(figsize=(11.5, height), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.0, 1.05), wspace=0.03, squeeze=False)[0]
    _bars(left.subplots(), shown)
    panels = _panels(shown, goodness)
    across = min(2, len(panels))
    grid = right.subplots(-(-len(panels) // across), across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, each in zip(grid, panels, strict=False):
        _scatter(axes, each, goodness[each.name], accuracy)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    floor = float(np.quantile(accuracy, HOPELESS))
    top = float(accuracy.max())
    for axes in grid[: len(panels)]:
        axes.set_ylim(floor - 0.08 * (top - floor), top + 0.05 * (top - floor))
    hidden = int((accuracy < floor - 0.08 * (top - floor)).sum())
    below = f"; {hidden:,} cells lie below the pictures" if hidden else ""
    right.supxlabel(f"rank of the score, 0 the worst, 1 the best{below}", fontsize=9, color=INK)
    right.supylabel(f"{metric}, percent", fontsize=9, color=INK, parse_math=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _panels(findings: Sequence[Finding], goodness: Mapping[str, Floats]) -> list[Finding]:
    """The best proxies whose scores are not those of a baseline, and the parameter count for comparison."""
    counts = [goodness[each.name] for each in findings if each.kind == "baseline"]
    proxies = [each for each in findings if each.kind == "proxy"]
    own = [each for each in proxies if not any(np.array_equal(goodness[each.name], count) for count in counts)]
    return [*own[: PANELS - 1], *(each for each in findings if each.name == "params")]


def _bars(axes: Axes, findings: Sequence[Finding]) -> None:
    y = np.arange(len(findings))[::-1]
    values = np.array([each.tau.value for each in findings])
    colours = [COLOURS[each.kind] for each in findings]
    axes.barh(y, values, height=0.68, color=colours)
    for position, each in zip(y, findings, strict=True):
        if np.isfinite(each.tau.low):
            axes.plot([each.tau.low, each.tau.high], [position] * 2, color=INK, linewidth=1.1, solid_capstyle="butt")
    axes.axvline(0, color=INK, linewidth=0.8)
    params = [each.tau.value for each in findings if each.name == "params"]
    for value in params:
        axes.axvline(value, color=COLOURS["baseline"], linewidth=1.2, linestyle="--", zorder=3)
    axes.set_yticks(y, [wrapped(each.name, NAME_WIDTH) for each in findings], fontsize=9, parse_math=False)
    around = max(0, FEWEST_ROWS - len(findings)) / 2  # keeps the bars thin where there are few
    axes.set_ylim(-0.7 - around, len(findings) - 0.3 + around)
    axes.set_xlabel(f"Kendall's tau with measured accuracy, {LEVEL:.0f} % intervals", fontsize=9, color=INK)
    _plain(axes, grid="x")
    kinds = [kind for kind in COLOURS if any(each.kind == kind for each in findings)]
    names = {"proxy": "proxy", "baseline": "counts only", "reference": "measured, no proxy"}
    handles = [Line2D([], [], color=COLOURS[kind], linewidth=6, label=names[kind]) for kind in kinds]
    if params:
        label = f"params: {params[0]:+.3f}"
        handles.append(Line2D([], [], color=COLOURS["baseline"], linewidth=1.2, linestyle="--", label=label))
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=len(handles), frameon=False, fontsize=8,
        handlelength=1.4, columnspacing=1.2, borderaxespad=0.3,
    )  # fmt: skip


def _scatter(axes: Axes, finding: Finding, goodness: Floats, accuracy: Floats) -> None:
    present = np.isfinite(goodness)
    ranks = (rankdata(goodness[present]) - 1) / max(1, present.sum() - 1)
    n = int(present.sum())
    size, alpha = (14, 0.7) if n <= 150 else (7, 0.5) if n <= 800 else (3, 0.35)
    axes.scatter(
        ranks, accuracy[present], s=size, alpha=alpha, color=COLOURS[finding.kind], linewidths=0, rasterized=n > 2000
    )
    title = wrapped(f"{finding.name}  {finding.tau.value:+.3f}", 38)
    axes.set_title(title, fontsize=9, color=INK, parse_math=False)
    axes.set_xticks([0, 0.5, 1])
    _plain(axes, grid="both")


def wrapped(name: str, width: int) -> str:
    """``name`` in lines of at most ``width`` characters; a longer name may be broken before its options."""
    if len(name) > width:
        name = name.replace("(", " (", 1)
    return "\n".join(textwrap.wrap(name, width))


def _plain(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color=GRID, linewidth=0.7)  # type: ignore[arg-type]  # a text, one of three
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
