"""Which searcher finds the best score of ``robust`` on the DARTS space, at equal numbers of passes?

    python -m experiments.zero_shot_searchers --dataset cifar10 [--seeds 10] [--channels 8] [--layers 3] [--out FOLDER]

``random`` and ``regularized_evolution`` score cells only; ``zero_shot_gradient`` and ``zero_cost_pruning`` also score
their supernet. :mod:`experiments.counted_passes` says how passes are counted. A cell that a search has met before is
not scored again and counts nothing.

For each seed ``zero_cost_pruning`` runs first, to its last decision; what it spent is the budget of the others. Cells
are scored with the same scorer, batch and seed in all searches, so the score is a function of the cell. A score is no
accuracy: beside it stands the percentile of the winner's parameter count among 1,000 random cells. Intervals are
percentile bootstraps over the seeds. comparison.json, table.md and scores.png are written to ``--out``, and the
searches of each seed as soon as they are finished: they are not repeated.
"""

from __future__ import annotations

import dataclasses
import io
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.stats import percentileofscore

from experiments.arguments import output_folder, positive
from experiments.counted_passes import Meter
from experiments.rank_statistics import Estimate, Weights, resample_weights
from nas.cli.arguments import Parser
from nas.cli.printing import Terminal
from nas.cli.running import run_command
from nas.device import torch_threads
from nas.executors.candidates import Candidate
from nas.files import make_folder, write
from nas.runs.directory import read_json, write_json
from nas.searching.config import SearchConfig
from nas.searching.untrained import UntrainedNetworks
from search_spaces import get_space
from searchers import get_searcher
from searchers.base import Trial
from searchers.supernet import SupernetSearcher

PRUNING = "zero_cost_pruning"
SEARCHERS = ("random", "regularized_evolution", "zero_shot_gradient", PRUNING)
RANDOM_CELLS = 1000
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all searches share."""

    dataset: str
    data_dir: str
    image_size: int | None
    channels: int
    layers: int
    ntk_images: int
    supernet_images: int

    @cache  # noqa: B019  # one object a process; the images take long to read
    def source(self) -> UntrainedNetworks:
        """The scores of the cells; the batch and the seed of their weights are the same in all searches."""
        names = ("dataset", "data_dir", "image_size", "channels", "layers", "ntk_images")
        options = {name: getattr(self, name) for name in names}
        config = SearchConfig.of("darts", proxy=("robust",), device="cpu", seed=0, **options)
        source = UntrainedNetworks(config, get_space("darts"), {})
        source.prepare()
        return source


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one search came to: the best score, the winner and its parameters, the work in MACs, the cells scored."""

    score: float
    cell: str
    params: int
    macs: int
    cells: int


def search(
    name: str, source: UntrainedNetworks, images: int, known: dict[str, Trial[Any]], *, seed: int, budget: int | None
) -> Found:
    """One search until its work reaches ``budget`` MACs; None: until the last step of a searcher with a supernet.

    :param images: of a score of the supernet.
    :param known: trials by key, to which new ones are added; this saves time, and counts as work all the same.
    """
    meter, kind, space = Meter(source), get_searcher(name), source.space
    own: dict[str, Any] = {"supernet_images": images} if kind.needs_material else {}
    material: dict[str, Any] = {"material": meter.material} if kind.needs_material else {}
    searcher = kind(space, seed=seed, objectives=source.objectives, options=kind.Options(**own), **material)
    scorer, met = source.scorer(), dict[str, Trial[Any]]()
    while (isinstance(searcher, SupernetSearcher) and not searcher.ended) if budget is None else meter.spent < budget:
        (genotype,) = searcher.ask(1)
        key = space.canonical(genotype)
        if key not in known:
            known[key] = scorer(Candidate(id=0, key=key, genotype=genotype))
        if key not in met:
            met[key] = known[key]
            meter.spent += meter.passes(len(source.labels)) * known[key].macs
        searcher.tell([dataclasses.replace(known[key], id=searcher.told, genotype=genotype)])
    best = max((trial for trial in met.values() if trial.status == "ok"), key=lambda trial: trial.scores["robust"])
    return Found(score=best.scores["robust"], cell=best.key, params=best.params, macs=meter.spent, cells=len(met))


def search_all(settings: Settings, out: Path | None, seed: int) -> dict[str, Found]:
    """All searchers with one seed, at the budget of the pruning; read from ``out``, or written there."""
    path = None if out is None else out / f"seed-{seed}.json"
    stored = None if path is None else read_json(path)
    if stored is not None and stored["settings"] == dataclasses.asdict(settings):
        return {name: Found(**stored["found"][name]) for name in SEARCHERS}
    found = _searched(settings, seed)
    if path is not None:
        values = {name: dataclasses.asdict(each) for name, each in found.items()}
        write_json(path, {"settings": dataclasses.asdict(settings), "found": values})
    return found


def _searched(settings: Settings, seed: int) -> dict[str, Found]:
    with torch_threads(1):
        source, known = settings.source(), dict[str, Trial[Any]]()
        run = partial(search, source=source, images=settings.supernet_images, known=known, seed=seed)
        pruned = run(PRUNING, budget=None)
        return {name: pruned if name == PRUNING else run(name, budget=pruned.macs) for name in SEARCHERS}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``found``: by searcher, what it found at each seed. ``random_params``: those of random cells."""

    settings: Settings
    found: dict[str, list[Found]]
    random_params: list[int]

    def percentiles(self, name: str) -> list[float]:
        """At each seed, the percentile of the winner's parameter count among random cells."""
        return [float(percentileofscore(self.random_params, each.params, "mean")) for each in self.found[name]]

    def figures(self, name: str) -> dict[str, Estimate]:
        """The means over the seeds, with intervals: score, its difference from ``random``'s, percentile."""
        scores, baseline = (np.array([each.score for each in self.found[key]]) for key in (name, SEARCHERS[0]))
        return {
            "score": _mean(scores),
            "more_than_random": _mean(scores - baseline),
            "params_percentile": _mean(np.array(self.percentiles(name))),
        }

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "settings": dataclasses.asdict(self.settings),
            "found": {name: [dataclasses.asdict(each) for each in found] for name, found in self.found.items()},
            "params_percentiles": {name: self.percentiles(name) for name in self.found},
            "means": {
                name: {key: each.to_json() for key, each in self.figures(name).items()} for name in self.found
            },
        }

    def markdown(self) -> str:
        """One row for each searcher."""
        lines = [
            "| | best `robust` | more than random | percentile of its parameters | GMACs | cells scored |",
            "|---|---|---|---|---|---|",
        ]
        for name, found in self.found.items():
            score, more, share = (_written(each) for each in self.figures(name).values())
            macs, cells = (float(np.mean([getattr(each, key) for each in found])) for key in ("macs", "cells"))
            more = "-" if name == SEARCHERS[0] else more
            lines.append(f"| `{name}` | {score} | {more} | {share} | {macs / 1e9:.1f} | {cells:.0f} |")
        return "\n".join(lines) + "\n"


def _mean(values: np.ndarray) -> Estimate:
    return Estimate.of(_resamples(len(values)) @ values / len(values))


@cache
def _resamples(seeds: int) -> Weights:
    return resample_weights(seeds, RESAMPLES, seed=0)


def _written(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})"


def compare(
    settings: Settings, *, seeds: int, workers: int, out: Path | None = None, console: Console | None = None
) -> Comparison:
    """Run all searchers with the seeds 0, 1, ..., each seed in a process of one thread."""
    spec, space = settings.source().spec, get_space("darts")
    rng = np.random.default_rng(0)
    params = [space.cost(space.sample(rng), spec).params for _ in range(RANDOM_CELLS)]
    run = partial(search_all, settings, out)
    with ProcessPoolExecutor(min(workers, seeds), multiprocessing.get_context("spawn")) as pool:
        results = pool.map(run, range(seeds)) if workers > 1 else map(run, range(seeds))
        found = list(track(results, "searching", total=seeds, console=console, disable=console is None, transient=True))
    return Comparison(
        settings=settings, found={name: [each[name] for each in found] for name in SEARCHERS}, random_params=params
    )


def picture(comparison: Comparison) -> bytes:
    """The winners of all seeds: score against the percentile of the parameter count; means with their intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, found in comparison.found.items():
        points = axes.scatter(comparison.percentiles(name), [each.score for each in found], s=14, label=name)
        score, _, share = comparison.figures(name).values()
        wide, high = ([[each.value - each.low], [each.high - each.value]] for each in (share, score))
        axes.errorbar(share.value, score.value, xerr=wide, yerr=high, color=points.get_facecolor()[0], capsize=3)
    axes.set_xlabel("percentile of the winner's parameter count among random cells")
    axes.set_ylabel("best robust score")
    axes.grid(alpha=0.3)
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line on the error stream."""
    return run_command(command, arguments)


def command(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after the program's name; returns the exit code."""
    parser = Parser(prog="zero_shot_searchers", description="Searches without training, at equal work.")
    parser.add_argument("--dataset", default="cifar10", help="as of nas.search (default cifar10)")
    parser.add_argument("--data-dir", default="data", help="where data sets are kept (default data)")
    parser.add_argument("--image-size", type=positive, help="resize the images of a folder to so many pixels square")
    parser.add_argument("--channels", type=positive, default=8, help="of the first cell (default 8)")
    parser.add_argument("--layers", type=positive, default=3, help="number of cells (default 3)")
    parser.add_argument("--ntk-images", type=positive, default=50, help="images of a cell's kernel (default 50)")
    parser.add_argument("--supernet-images", type=positive, default=4, help="images of a supernet's score (default 4)")
    parser.add_argument("--seeds", type=positive, default=10, help="searches of each kind (default 10)")
    parser.add_argument("--workers", type=positive, default=2, help="seeds at a time (default 2)")
    parser.add_argument("--out", type=output_folder, metavar="FOLDER", help="folder for the figures and the picture")
    options = vars(parser.parse_args(argv))
    out, seeds, workers = (options.pop(name) for name in ("out", "seeds", "workers"))
    if out is not None:
        make_folder(out)
    comparison = compare(Settings(**options), seeds=seeds, workers=workers, out=out, console=Console(stderr=True))
    Terminal().say(comparison.markdown())
    if out is not None:
        write_json(out / "comparison.json", comparison.to_json())
        write(out / "table.md", comparison.markdown())
        write(out / "scores.png", picture(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
