"""``python -m nas.search``: search a space for its best cell. From Python, use :class:`nas.Search`."""

from __future__ import annotations

if __name__ == "__main__":  # Ctrl-C during the imports that follow
    from nas.cli import interrupts

    interrupts.end_at_once()

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas.attacking.registry import DEFAULT_ATTACKS
from nas.cli.bounds import flag
from nas.cli.fields import option, path_option
from nas.errors import UserError
from nas.searching.config import SearchConfig

if TYPE_CHECKING:
    from nas.searching.search import SearchResult
    from search_spaces.base import SearchSpace


#: ``--train quick`` uses these attacks on this many images, so that it is feasible on a CPU
QUICK_ATTACKS = ("natural", "fgsm", "pgd-20")
QUICK_SAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where a search's output goes."""

    out: str | None = path_option(None, "run directory (default: runs/SPACE-SEARCHER-seedN, with a number if needed)")
    resume: str | None = option(
        None, "go on with the run in --out, or in the directory given here; options not given are the run's", const=""
    )
    quiet: bool = option(False, "no progress and no table: print the best genotype only")
    json: bool = option(False, "no table: print the result as one JSON object")
    no_report: bool = option(False, "write no report.html")
    train: Literal["quick", "tiny_robustbench", "table"] | None = option(
        None,
        "go on to train the best cell adversarially by this preset of nas.train, and attack it (quick: 1,000 images)",
    )


def _parse(argv: Sequence[str], space: SearchSpace[Any] | None) -> tuple[dict[str, Any], OutputOptions]:
    """Options by name, and output options. Options of a resumed run that are not given come from its manifest."""
    from nas.cli.options import resumable_options
    from nas.searching.searcher_options import options_group

    options, output, path = resumable_options(
        argv,
        "python -m nas.search",
        "Search a cell space for the cell whose untrained network a zero-cost proxy ranks best, or a table of measured"
        " accuracies for its best cell.",
        (("search", SearchConfig), ("of one searcher", options_group())),
        ("output", OutputOptions),
        ("--proxy", "--require", "--objective", "--start"),
        check=lambda stored: SearchConfig.of(**{**stored, "space": space or stored["space"]}),
    )
    return options, output if path is None else dataclasses.replace(output, out=str(path))


def command(argv: Sequence[str]) -> int:
    """Run the command with the arguments ``argv``, without the program's name; returns the exit code."""
    from nas.spaces import named_space

    argv, space = named_space(argv)
    options, output = _parse(argv, space)
    if output.train and options["table"]:
        raise UserError("--train has no use with --table, which needs no images: python -m nas.train --run takes them")
    from nas.searching import output as progress
    from nas.searching.search import Search

    name = options.pop("space")
    search = Search(
        space or name, options.pop("searcher"), options.pop("proxy"),
        out=output.out, resume=output.resume is not None, report=not output.no_report, **options,
    )  # fmt: skip
    config = search.config
    source = search.source
    if output.train:
        from nas.searching.ahead import check_training_ahead
        from nas.searching.untrained import UntrainedNetworks

        assert isinstance(source, UntrainedNetworks)  # --table has been refused
        attacks = QUICK_ATTACKS if output.train == "quick" else DEFAULT_ATTACKS
        check_training_ahead(config, source, output.train, attacks)
    bar = progress.SearchProgress(
        config.budget, source.objectives, source.names, search.executor.status, show=not (output.quiet or output.json)
    )
    with contextlib.redirect_stdout(sys.stderr), bar:  # Ray itself prints when a worker dies
        result = search.run(bar.update, bar.compared)
    if output.json:
        print(json.dumps(result_to_json(result, source.space)))
    elif output.quiet:
        print(source.space.format(result.best.genotype))
    else:
        progress.print_result(result, source, config)
    return train_and_attack(config, output, result.path, space) if output.train else 0


def train_and_attack(
    config: SearchConfig, output: OutputOptions, run: Path, space: SearchSpace[Any] | None = None
) -> int:
    """Train the best cell of ``run`` on the images of the search, then attack it. An earlier training is resumed."""
    from nas import attack, train
    from nas.training.directory import holds_training

    shared = ["--dataset", config.dataset, "--data-dir", config.data_dir, "--device", config.device]
    shared += ["--seed", str(config.seed), *(["--download"] if config.download else [])]
    for name in ("image_size", "threads"):
        value = getattr(config, name)
        shared += [flag(name), str(value)] if value is not None else []
    shared += ["--quiet"] * output.quiet + ["--json"] * output.json
    begun = ["--resume"] if holds_training(run) else []
    words = ["--run", str(run)]
    try:
        train.command([*words, "--out", str(run), "--preset", str(output.train), *begun, *shared], space)
        if output.train == "quick":
            words += [word for name in QUICK_ATTACKS for word in ("--attack", name)]
            words += ["--samples", str(min(QUICK_SAMPLES, _test_images(config)))]
        return attack.command([*words, *shared], space)
    except KeyboardInterrupt:
        again = f"python -m nas.search --resume {shlex.quote(str(run))} --train {output.train}"
        raise KeyboardInterrupt(f"interrupted; what is finished is kept, to go on: {again}") from None


def _test_images(config: SearchConfig) -> int:
    from nas.images.data import load_data

    data = load_data(config.dataset, data_dir=config.data_dir, image_size=config.image_size)
    return len(data.test.labels)


def result_to_json(result: SearchResult, space: SearchSpace[Any]) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    from nas.searching.summary import best_to_json

    return {
        "run": str(result.path),
        "report": None if result.report is None else str(result.report),
        "best": best_to_json(result.best, space),
        "top": [best_to_json(trial, space) for trial in result.top],
        "front": [best_to_json(trial, space) for trial in result.front],
        "summary": result.summary,
        "comparison": None if result.comparison is None else dataclasses.asdict(result.comparison),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 (the search stopped), 2 (a user's error) or 130 (interrupted)."""
    from nas.cli.running import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
