"""The configuration of a search: every option is declared here once, with its default, help text and bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from nas.cli import bounds
from nas.cli.bounds import flag
from nas.cli.fields import check_types, option, options_of, path_option, plain
from nas.errors import UserError, as_user_error, unknown
from nas.executors.options import RAY, check_executor
from nas.searching.chosen_space import default_space, find_space, network_size
from nas.searching.objectives import MEASURED
from nas.searching.searcher_options import all_options, make_options
from proxies.spelling import canonical
from search_spaces import SPACES
from search_spaces.base import SearchSpace
from searchers import SEARCHERS, get_searcher
from searchers.base import Searcher

DEFAULT_PROXIES = ("robust",)
MOST_OBJECTIVES = 5  # m objectives: the time for the hypervolume of n points grows as n^(m - 2)
_OPTIONAL = (
    "channels",
    "layers",
    "threads",
    "workers",
    "gpus_per_worker",
    "max_params",
    "max_macs",
    "image_size",
    "latency_batch",
    "stack",
)  # may be None, which means no limit or the default


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """All options of a search. The history of a search depends on them and on the version of the program only.

    Fields marked ``free`` do not affect the history, so a resumed search may change them; ``skip_oversized`` is the
    exception, by which the user decides that a search goes on although its machine is too small. Fields marked
    ``untrained`` say how untrained networks are scored; a search on a table refuses them. Fields marked ``only_with``
    have an effect only when another option has a certain value. Where the space or the proxies are None, a default is
    chosen from the other options. ``searcher_options`` holds the options of the chosen searcher; :meth:`of` makes it
    from options by name.
    """

    space: str = option(
        None,
        f"search space: {', '.join(SPACES)}, or module:Class of your own (default: darts, or that of --table)",
    )
    searcher: str = option("regularized_evolution", f"what proposes candidates: {' or '.join(SEARCHERS)}")
    proxy: tuple[str, ...] = option(
        None,
        "proxy to rank by, such as synflow or 'snip(images=64)' (default: robust, none with --table or --objective);"
        " repeat it to combine several by rank; beside --objective it is only shown",
    )
    objective: tuple[str, ...] = option(
        None,
        "what to weigh: a proxy, params, macs, latency_ms, memory_mib, or a metric of --table; repeat it for a front of"
        " several",
    )
    table: str | None = option(
        None, "rank by measured accuracies: nas_robbench_201, nas_bench_201_r, tiny_robustbench, nares"
    )
    metric: str | None = option(None, "which accuracy of the table, such as cifar10/autoattack")
    budget: int = option(100, "number of candidates")
    seed: int = option(0, "seed of proposals, weights and the probe batch")
    dataset: str = option(
        "digits", "images: digits, cifar10, cifar100, svhn or folder:PATH (PATH/train/CLASS/IMAGE)", untrained=True
    )
    data_dir: str = path_option("data", "where cifar10, cifar100, svhn and the files of tables are kept", free=True)
    download: bool = option(False, "fetch the data set if it is not in --data-dir", free=True)
    image_size: int | None = option(None, "resize the images of a folder to this many pixels square", untrained=True)
    channels: int | None = option(
        None,
        "channels of the first cell, or of a residual network's first convolution (default: the space's own, such as 16"
        " of darts, or those of --table)",
    )
    layers: int | None = option(None, "number of cells in the network (default: the space's own, such as 8 of darts)")
    ntk_images: int = option(50, "images of the robust proxies' NTK term", untrained=True)
    curvature_images: int = option(8, "images of the robust proxies' curvature term", untrained=True)
    candidates_per_step: int = option(
        None,
        "candidates proposed at a time; a larger number feeds more workers (default: 10, or 1 for a searcher with a"
        " supernet)",
    )
    stack: int | None = option(
        None,
        "candidates of a step that are computed as one network, where the space can do that; scores differ by rounding"
        " (default: 1 on a CPU, where more are slower; on a GPU as many as its memory holds, up to 16)",
        untrained=True,
    )
    max_params: int | None = option(None, "reject cells of more parameters (at --channels and --layers)")
    max_macs: int | None = option(None, "reject cells of more multiply-accumulates (likewise)")
    max_latency_ms: float | None = option(
        None, "cells of a higher latency_ms, which is measured, are infeasible", untrained=True
    )
    latency_batch: int | None = option(
        None, "images of the forward pass that latency_ms and memory_mib measure (default: 1)", untrained=True
    )
    require: tuple[str, ...] = option((), "reject cells that do not meet it: 'normal.skip_connect == 2'; repeatable")
    start: tuple[str, ...] = option(
        None, "cell that is proposed first: by name, as text, or a run directory (its front or best cell); repeatable"
    )
    max_draws: int = option(100_000, "give up after so many draws in a row that meet no constraint")
    compare: Literal["auto", "always", "never"] = option(
        "auto",
        "afterwards, score random cells of the winner's size and published cells beside it (auto: with --table, or if"
        " that adds at most a fifth to --budget)",
        free=True,
    )
    threads: int | None = option(None, "candidates scored at a time on the CPU (default: one per core)", free=True)
    device: str = option("auto", "cpu, cuda, cuda:N, or auto: cuda where there is one")
    skip_oversized: bool = option(
        False, "a cell for which memory does not suffice, even scored alone, fails: it would stop the search otherwise",
        free=True, untrained=True,
    )  # fmt: skip
    executor: str = option(
        "local", "where candidates are scored: local (this process) or ray (Ray actors)", free=True, untrained=True
    )
    workers: int | None = option(None, "ray: actors (default: as many as the machines hold)", free=True, only_with=RAY)
    cpus_per_worker: float = option(1.0, "ray: cores reserved by an actor", free=True, only_with=RAY)
    gpus_per_worker: float | None = option(
        None,
        "ray: GPUs reserved by an actor, such as 0.25 (default: 1 with --device cuda, else 0)",
        free=True,
        only_with=RAY,
    )
    chunk_seconds: float = option(0.2, "ray: work handed to an actor at a time", free=True, only_with=RAY)
    candidate_timeout: float = option(
        600.0,
        "ray: seconds after which a candidate's actor is ended; it fails the second time",
        free=True,
        only_with=RAY,
    )
    address: str | None = option(
        None,
        "ray: a cluster to join (default: RAY_ADDRESS, else a private one on this machine)",
        free=True,
        only_with=RAY,
    )
    searcher_options: Searcher.Options = None  # type: ignore[assignment]  # None: the searcher's defaults

    @classmethod
    def of(cls, space: str | SearchSpace[Any] | None = None, **options: Any) -> SearchConfig:
        """The configuration made from options by name, including the searcher's; the inverse of :meth:`to_json`.

        :param space: also gives the default for channels and layers, where these are None.
        :raises UserError: an option does not exist, belongs to another searcher or space, or has an invalid value.
        """
        known = (*(field.name for field in options_of(cls)), *all_options())
        for name in options:
            if name not in known:
                raise unknown("option", name, known)
        if not isinstance(options.get("searcher", ""), str):
            expected = f"--searcher must be a name, one of {', '.join(SEARCHERS)}"
            raise UserError(f"{expected}, got {options['searcher']!r:.60}")
        own = {name: options.pop(name) for name in all_options() if name in options}
        own_options = make_options(options.get("searcher", cls.searcher), own)
        found = find_space(space, options.get("table"))
        options.update(network_size(found, options))
        if options.get("start"):
            from nas.runs.cells import start_cells

            start = options["start"]
            options["start"] = start_cells(bounds.texts(start) if isinstance(start, Iterable) else (start,), found)
        return cls(space=found.name, searcher_options=own_options, **options)

    def __post_init__(self) -> None:
        check_types(self)
        self._fill_in()
        for name in ("proxy", "require"):
            object.__setattr__(self, name, bounds.texts(getattr(self, name)))
        object.__setattr__(self, "proxy", as_user_error(lambda: canonical(self.proxy)))
        objective = as_user_error(lambda: canonical(bounds.texts(self.objective)))
        object.__setattr__(self, "objective", objective or None)
        if self.table is not None:
            self._check_table()
        elif not self.proxy and not self.objective:
            raise UserError("--proxy must name at least one proxy, got none")
        if len(objective) > MOST_OBJECTIVES:
            raise UserError(f"--objective must name at most {MOST_OBJECTIVES} objectives, got {len(objective)}")
        for name, given in (("proxy", self.proxy), ("objective", objective)):
            if len(set(given)) < len(given):
                raise UserError(f"{flag(name)} must name each {name} once, got {', '.join(given)}")
        self._check_bounds()
        object.__setattr__(self, "start", bounds.texts(self.start) or None)  # as in runs of before this option
        if self.start and not get_searcher(self.searcher).takes_start:
            takers = [name for name in SEARCHERS if get_searcher(name).takes_start]
            raise UserError(f"--start needs --searcher {' or '.join(takers)}, got {self.searcher}")

    def _fill_in(self) -> None:
        """Replace the options that are None by the defaults that follow from the other options."""
        proxy = () if self.table is not None or self.objective else DEFAULT_PROXIES
        for name, value in (("space", default_space(self.table)), ("proxy", proxy)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.searcher_options is None:
            object.__setattr__(self, "searcher_options", make_options(self.searcher, {}))
        if self.candidates_per_step is None:
            object.__setattr__(self, "candidates_per_step", get_searcher(self.searcher).step)
        if self.metric is not None and self.table is None:
            raise UserError(f"--metric {self.metric} needs --table, got none")

    def _check_table(self) -> None:
        """Check the space against the table, and refuse options that only apply to untrained networks."""
        from nas.tabular import find_benchmark

        assert self.table is not None
        if get_searcher(self.searcher).needs_material:
            raise UserError(f"--searcher {self.searcher} needs networks and images, which --table does not read")
        if get_searcher(self.searcher).multi_fidelity:
            raise UserError(f"--searcher {self.searcher} needs networks of several sizes, which --table does not hold")
        measured = find_benchmark(self.table).space
        if self.space != measured:
            raise UserError(f"--space must be {measured}, the space of --table {self.table}, got {self.space}")
        if self.proxy:
            raise UserError(
                f"--proxy {self.proxy[0]} and --table {self.table} both rank the cells, expected one of them"
            )
        for name in self.objective or ():
            if self.metric is not None:
                both = f"--metric {self.metric} and --objective {name}"
                raise UserError(f"{both} both rank the cells, expected one of them")
            if name in MEASURED:
                raise UserError(f"--objective {name} has no use with --table: no network is built")
        for field in dataclasses.fields(self):
            if field.metadata.get("untrained") and getattr(self, field.name) != field.default:
                raise UserError(f"{flag(field.name)} has no use with --table: no network is built, no image is read")

    def _check_bounds(self) -> None:
        for name in (
            "budget", "channels", "layers", "ntk_images", "curvature_images", "candidates_per_step", "max_draws",
            "threads", "workers", "max_params", "max_macs", "image_size", "latency_batch", "stack",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                bounds.whole(name, value)
        bounds.seed(self.seed)
        if self.max_latency_ms is not None:
            bounds.positive("max_latency_ms", self.max_latency_ms)
        if self.latency_batch is not None and not self.measured:
            raise UserError("--latency-batch needs --objective latency_ms or memory_mib, or --max-latency-ms, got none")
        for name in ("chunk_seconds", "candidate_timeout"):
            bounds.positive(name, getattr(self, name))
        check_executor(self)
        if self.executor == "ray" and self.threads is not None:
            raise UserError("--threads has no use with --executor ray, expected --workers")

    @property
    def measured(self) -> tuple[str, ...]:
        """What is measured of each candidate: ``latency_ms``, ``memory_mib``, both or nothing."""
        named = [name for name in MEASURED if name in (self.objective or ())]
        return tuple(dict.fromkeys([*named, *([MEASURED[0]] if self.max_latency_ms is not None else [])]))

    def to_json(self) -> dict[str, Any]:
        """Plain values by option name, as the manifest stores them and ``--config`` reads them."""
        values = {field.name: getattr(self, field.name) for field in options_of(self)}
        values.update({name: plain(value) for name, value in dataclasses.asdict(self.searcher_options).items()})
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
