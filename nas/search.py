"""``python -m nas.search``: from a search space to its best cell.

From Python::

    from nas import Search

    result = Search("darts", "regularized_evolution", ["robust"], budget=100, seed=0).run()
    print(result.best.genotype)
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config import SearchConfig, differences, flag, option
from nas.errors import SearchStopped, UserError

if TYPE_CHECKING:
    from nas.data import ImageData
    from nas.loop import Loop
    from nas.runs import RunDirectory
    from proxies.base import Proxy
    from search_spaces.base import NetworkSpec, SearchSpace
    from searchers.base import Fitness, Searcher, Trial

TOP = 5


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where a search's output goes."""

    out: str | None = option(None, "run directory (default: runs/SPACE-SEARCHER-seedN, with a number if it exists)")
    resume: str | None = option(
        None, "go on with the run in --out, or in the directory given here; options not given are the run's", const=""
    )
    quiet: bool = option(False, "no progress and no table: print the best genotype only")
    json: bool = option(False, "no table: print the result as one JSON object")
    no_report: bool = option(False, "write no report.html")


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found: ``top`` is best first, ``trials`` in order of proposal."""

    best: Trial[Any]
    top: list[Trial[Any]]
    trials: list[Trial[Any]]
    path: Path
    summary: dict[str, int]
    report: Path | None


class Search:
    """One search: a space, a searcher, proxies, a budget.

    :param space: a name, or a :class:`~search_spaces.base.SearchSpace`.
    :param searcher: a name; further options are :class:`~nas.config.SearchConfig`'s.
    :param proxies: a name, a :class:`~proxies.base.Proxy` object, or several of them; several are combined by rank.
    :param out: run directory, by default a new one in ``runs/``.
    :param resume: go on with the run in ``out``.
    :param report: whether to write ``report.html``.
    :raises UserError: an option that cannot be, in one line.
    """

    def __init__(
        self,
        space: str | SearchSpace[Any] = "darts",
        searcher: str = "regularized_evolution",
        proxies: str | Proxy | Sequence[str | Proxy] = ("robust",),
        *,
        out: str | Path | None = None,
        resume: bool = False,
        report: bool = True,
        **options: Any,
    ):
        proxies = proxies if isinstance(proxies, Sequence) and not isinstance(proxies, str) else (proxies,)
        names = tuple(each if isinstance(each, str) else each.name for each in proxies)
        self._given_space = None if isinstance(space, str) else space
        self._given_proxies = {each.name: each for each in proxies if not isinstance(each, str)}
        self.config = SearchConfig(
            space=space if isinstance(space, str) else space.name, searcher=searcher, proxy=names, **options
        )
        self.out = None if out is None else Path(out)
        self.resume = resume
        self.report = report
        if resume and out is None:
            raise UserError("resume needs the run directory, got no out")

    def run(self, watch: Callable[[Trial[Any]], None] | None = None) -> SearchResult:
        """Search to the end of the budget; what is finished is on disk at every moment.

        :param watch: called with each finished trial, the stored ones of a resumed run included.
        :raises SearchStopped: most candidates fail, or none has a score.
        :raises KeyboardInterrupt: with a message that says how to resume.
        """
        from nas.executors.local import LocalExecutor
        from nas.loop import Loop
        from nas.runs import RunDirectory, new_run_path
        from nas.scoring import Scorer
        from search_spaces.base import NetworkSpec

        config = self.config
        space, device = self._space(), _device(config.device)
        path = self.out or new_run_path(Path("runs"), f"{config.space}-{config.searcher}-seed{config.seed}")
        self._check_path(path)
        proxies, fitness = self._proxies()
        self._searcher(space, NetworkSpec(channels=config.channels, layers=config.layers), fitness)
        data, images, labels, spec = self._data()
        searcher, violation = self._searcher(space, spec, fitness)
        if not self.resume:
            self._check_reachable(searcher)  # constraints that nothing meets leave no run behind
        scorer = Scorer(space, spec, proxies, images, labels, seed=config.seed, device=device)
        with RunDirectory(path, space) as run:
            self._check_path(path)  # once more: nobody else can write now
            manifest = self._manifest(path, proxies, data, device)
            stored = run.read_trials() if self.resume else []

            def record(trial: Trial[Any]) -> None:
                run.append(trial)
                if watch is not None:
                    watch(trial)

            loop = Loop(
                searcher, scorer, LocalExecutor(config.threads),
                budget=config.budget, step=config.candidates_per_step, violation=violation, record=record,
            )  # fmt: skip
            loop.check(stored)
            for trial in stored:
                if watch is not None:
                    watch(trial)
            run.write_manifest(manifest)
            try:
                return self._finish(run, loop, manifest, stored, fitness)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"interrupted after {len(run.read_trials())} of {config.budget} candidates; to go on:"
                    f" python -m nas.search --resume {shlex.quote(str(path))}"
                ) from None

    def _finish(
        self,
        run: RunDirectory[Any],
        loop: Loop[Any],
        manifest: dict[str, Any],
        stored: list[Trial[Any]],
        fitness: Fitness[Any],
    ) -> SearchResult:
        from searchers.fitness import best

        started, before, status = time.perf_counter(), manifest["seconds"], "failed"
        try:
            trials = loop.run(stored)
            top = best(trials, fitness, TOP)
            if not top:
                raise SearchStopped(
                    f"none of {len(trials)} candidates has a score; the last reason: {trials[-1].error}"
                )
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            manifest = {
                **manifest,
                "status": status,
                "ended": _now(),
                "seconds": round(before + time.perf_counter() - started, 3),
                "summary": summarise(loop),
            }
            run.write_manifest(manifest)
        run.write_best(best_to_json(top[0], run.space))
        report = None
        if self.report:
            from nas.report import write_report

            report = write_report(run.path)
        return SearchResult(
            best=top[0], top=top, trials=trials, path=run.path, summary=manifest["summary"], report=report
        )

    def _space(self) -> SearchSpace[Any]:
        from search_spaces import get_space

        return self._given_space or _or_user_error(lambda: get_space(self.config.space))

    def _proxies(self) -> tuple[list[Proxy], Fitness[Any]]:
        from proxies import get_proxy
        from searchers.fitness import RankSum, SingleScore

        proxies = [
            self._given_proxies.get(name)
            or _or_user_error(partial(get_proxy, name, **proxy_options(name, self.config)))
            for name in self.config.proxy
        ]
        if len(proxies) == 1:
            return proxies, SingleScore(proxies[0].name, proxies[0].direction)
        return proxies, RankSum({proxy.name: proxy.direction for proxy in proxies})

    def _data(self) -> tuple[ImageData, Any, Any, NetworkSpec]:
        from nas.data import load_data, probe_batch
        from search_spaces.base import NetworkSpec

        config = self.config
        data = load_data(
            config.dataset, data_dir=config.data_dir, download=config.download, image_size=config.image_size
        )
        larger = "ntk_images" if config.ntk_images >= config.curvature_images else "curvature_images"
        try:
            images, labels = probe_batch(data.train, getattr(config, larger), config.seed)
        except UserError as error:
            raise UserError(f"{flag(larger)}: {error}") from None
        spec = NetworkSpec(
            channels=config.channels,
            layers=config.layers,
            classes=len(data.classes),
            image_size=(images.shape[2], images.shape[3]),
            image_channels=images.shape[1],
        )
        return data, images, labels, spec

    def _searcher(
        self, space: SearchSpace[Any], spec: NetworkSpec, fitness: Fitness[Any]
    ) -> tuple[Searcher[Any], Callable[[Any], str | None]]:
        from searchers import get_searcher
        from searchers.constraints import Constraint, Constraints

        config = self.config
        searcher = _or_user_error(lambda: get_searcher(config.searcher))
        own: dict[str, dict[str, Any]] = {
            "random": {"sampler": config.sampler},
            "regularized_evolution": {"population": config.population, "tournament": config.tournament},
        }
        options = own.get(config.searcher, {})
        if config.sampler != "uniform" and config.searcher != "random":
            raise UserError(f"--sampler {config.sampler} needs --searcher random, got {config.searcher}")

        def build() -> tuple[Searcher[Any], Callable[[Any], str | None]]:
            constraints = Constraints(
                require=tuple(Constraint.parse(text) for text in config.require),
                max_params=config.max_params,
                max_macs=config.max_macs,
            )
            made = searcher(
                space,
                seed=config.seed,
                fitness=fitness,
                feasible=constraints.feasible(space, spec),
                max_draws=config.max_draws,
                **options,
            )
            return made, lambda genotype: constraints.violation(genotype, space, spec)

        made: tuple[Searcher[Any], Callable[[Any], str | None]] = _or_user_error(build)
        return made

    def _check_reachable(self, searcher: Searcher[Any]) -> None:
        """Refuse constraints that no draw meets, naming them."""
        from searchers.base import NoFeasibleCandidate

        limits = [f"{flag(name)} {getattr(self.config, name)}" for name in ("max_params", "max_macs")]
        asked = [*self.config.require, *(limit for limit in limits if not limit.endswith("None"))]
        try:
            searcher.ask(1)
        except NoFeasibleCandidate as error:
            raise UserError(f"{error}: {', '.join(asked)}") from None

    def _check_path(self, path: Path) -> None:
        """Refuse a directory that holds another run."""
        from nas.runs import holds_run, read_manifest

        if not self.resume:
            if holds_run(path):
                raise UserError(f"{path} already holds a run; pass --resume to go on with it, or another --out")
            return
        differing = differences(read_manifest(path)["configuration"], self.config)
        if differing:
            raise UserError(f"cannot resume {path} with another configuration: {', '.join(differing)}")

    def _manifest(self, path: Path, proxies: Sequence[Proxy], data: ImageData, device: str) -> dict[str, Any]:
        """A new manifest, or the resumed run's own."""
        from nas import environment
        from nas.data import fingerprint
        from nas.runs import read_manifest

        described = {
            "name": data.name,
            "fingerprint": fingerprint(data.train),
            "classes": len(data.classes),
            "image_size": list(data.train.images.shape[2:]),
            "images": len(data.train.labels),
        }
        manifest: dict[str, Any] = {
            "command": "search",
            "status": "running",
            "configuration": self.config.to_json(),
            "proxies": [{"name": proxy.name, "direction": proxy.direction} for proxy in proxies],
            "versions": environment.versions(),
            "hardware": environment.hardware(device),
            "data": described,
            "git_commit": environment.git_commit(),
            "started": _now(),
            "ended": None,
            "seconds": 0.0,
            "summary": {},
        }
        if not self.resume:
            return manifest
        stored = read_manifest(path)
        try:
            then = {"data set": stored["data"]["fingerprint"], "device": stored["hardware"]["device"]}
            times = {"started": str(stored["started"]), "seconds": float(stored["seconds"])}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the manifest of {path} is damaged: {type(error).__name__} {error}") from None
        for name, now in (("data set", described["fingerprint"]), ("device", device)):
            if now != then[name]:
                raise UserError(f"cannot resume {path} with another {name}: got {now}, expected {then[name]}")
        return {**manifest, **times}


def proxy_options(name: str, config: SearchConfig) -> dict[str, Any]:
    """What the configuration says to the proxy ``name``."""
    images = {"ntk_images": config.ntk_images, "curvature_images": config.curvature_images}
    own = {
        "t": config.robust_t, "h": config.robust_h, "function": config.robust_function, "norm": config.robust_norm,
    }  # fmt: skip
    options: dict[str, dict[str, Any]] = {"robust": {**images, **own}, "robust_released": dict(images)}
    return options.get(name, {})


def summarise(loop: Loop[Any]) -> dict[str, int]:
    """Counts of a search: trials by status, keys met again, draws that the constraints turned down."""
    counts = {status: sum(t.status == status for t in loop.trials) for status in ("ok", "failed", "infeasible")}
    return {"trials": len(loop.trials), **counts, "reused": loop.reused, "rejected": loop.searcher.rejected}


def best_to_json(trial: Trial[Any], space: SearchSpace[Any]) -> dict[str, Any]:
    """What ``best.json`` holds."""
    to_json = getattr(trial.genotype, "to_json", None)
    return {
        "id": trial.id,
        "key": trial.key,
        "genotype": space.format(trial.genotype),
        "genotype_json": to_json() if to_json else None,
        "seed": trial.seed,
        "scores": trial.scores,
        "params": trial.params,
        "macs": trial.macs,
    }


def result_to_json(result: SearchResult, space: SearchSpace[Any]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "run": str(result.path),
        "report": None if result.report is None else str(result.report),
        "best": best_to_json(result.best, space),
        "top": [best_to_json(trial, space) for trial in result.top],
        "summary": result.summary,
    }


def _or_user_error(make: Callable[[], Any]) -> Any:
    """``make()``; what it finds wrong with an option is the user's to mend."""
    try:
        return make()
    except UserError:
        raise
    except ValueError as error:
        raise UserError(" ".join(str(error).split())) from None


def _device(name: str) -> str:
    """The torch device of ``--device``, checked to be there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(f"--device must be cpu, cuda, cuda:N or auto, got '{name}'")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices")
    return name


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _parse(argv: Sequence[str]) -> tuple[SearchConfig, OutputOptions]:
    """Options from the command line; those of a resumed run are its manifest's unless given."""
    from nas.cli import check_config_files, join_repeated, make_parser, pick
    from nas.runs import read_manifest

    words = join_repeated(argv, ("--proxy", "--require"))
    parser = make_parser(
        "python -m nas.search",
        "Search a cell space for the cell whose untrained network a zero-cost proxy ranks best.",
        ("search", SearchConfig),
        ("output", OutputOptions),
    )
    check_config_files(words, parser.expected)
    values = parser.parse_args(words)
    output = pick(OutputOptions, values)
    if output.resume is None:
        return pick(SearchConfig, values), output
    if output.resume and output.out and Path(output.resume) != Path(output.out):
        raise UserError(f"--resume {output.resume} and --out {output.out} name two run directories, expected one")
    path = output.resume or output.out
    if not path:
        raise UserError("--resume needs the run directory: --resume DIR, or --out DIR --resume")
    stored = read_manifest(Path(path))["configuration"]
    known = {field.name for field in dataclasses.fields(SearchConfig)}
    parser.set_defaults({name: value for name, value in stored.items() if name in known})
    return pick(SearchConfig, parser.parse_args(words)), dataclasses.replace(output, out=path)


def command(argv: Sequence[str]) -> int:
    """The command's work after the name of the program."""
    config, output = _parse(argv)
    from nas import progress

    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    search = Search(
        options.pop("space"), options.pop("searcher"), options.pop("proxy"),
        out=output.out, resume=output.resume is not None, report=not output.no_report, **options,
    )  # fmt: skip
    space, (_, fitness) = search._space(), search._proxies()
    with progress.SearchProgress(config.budget, fitness, config.proxy, show=not (output.quiet or output.json)) as bar:
        result = search.run(watch=bar.update)
    if output.json:
        print(json.dumps(result_to_json(result, space)))
    elif output.quiet:
        print(space.format(result.best.genotype))
    else:
        progress.print_result(result, space, config)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 (the search stopped), 2 (a user's slip) or 130 (interrupted)."""
    from nas.cli import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
