"""Robust accuracy as a function of the minutes of training.

    python -m experiments.robustness_over_minutes --cell ROBUST_ZCP --dataset folder:DIR --out runs/minutes

The same cell is trained with the same preset on 3,000, 6,000, 12,000 and all training images, each time from the
beginning and through the whole schedule, and attacked on the same test images. Finally it is trained on all images
without an attack. Minutes are measured by ``nas.train`` from the first step to the last, validation included. Nothing
else should run on the machine. Trainings and attacks that are finished in ``--out`` are not repeated.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from experiments.arguments import output_folder, positive
from nas import attack, train
from nas.attacking.measure import RESULT
from nas.cli.arguments import Parser
from nas.cli.printing import Terminal
from nas.cli.running import run_command
from nas.files import write
from nas.runs.directory import read_json
from nas.training.directory import holds_training, read_training

PGD = "PGD-20"


@dataclass(frozen=True)
class Point:
    """One training: images trained on, minutes, and how many of ``samples`` test images were classified correctly."""

    images: int
    method: str
    minutes: float
    correct: dict[str, int]
    samples: int
    interval: tuple[float, float]  # of the accuracy under PGD, percent

    def accuracy(self, name: str) -> float:
        """The accuracy under attack ``name``, percent."""
        return 100 * self.correct[name] / self.samples


def measure(run: Path, words: Sequence[str], dataset: Sequence[str], samples: int) -> Point:
    """Train and attack in ``run``; what is finished there is read instead."""
    begun = ["--resume"] if holds_training(run) else []
    train.command([*words, *dataset, "--out", str(run), *begun])
    attacks = ["--attack", "natural", "--attack", "pgd-20", "--samples", str(samples)]
    attack.command(["--run", str(run), *attacks, *dataset, "--quiet"])
    stored, found = read_training(run), read_json(run / RESULT)
    assert found is not None  # the attack has written it
    rows = {row["attack"]: row for row in found["attacks"]}
    low, high = rows[PGD]["interval"]
    return Point(
        images=stored["data"]["train_images"], method=stored["configuration"]["method"],
        minutes=stored["seconds"] / 60, correct={name: row["correct"] for name, row in rows.items()}, samples=samples,
        interval=(100 * low, 100 * high),
    )  # fmt: skip


def save(points: Sequence[Point], folder: Path) -> None:
    """``minutes.csv`` and ``minutes.png``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "images", "minutes", "natural", "pgd-20", "low", "high", "samples"])
    for each in points:
        accuracies = (each.correct["natural"] / each.samples, each.correct[PGD] / each.samples)
        bounds = (each.interval[0] / 100, each.interval[1] / 100)
        writer.writerow([each.method, each.images, f"{each.minutes:.2f}", *accuracies, *bounds, each.samples])
    write(folder / "minutes.csv", text.getvalue())
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    robust = [each for each in points if each.method != "none"]
    minutes = [each.minutes for each in robust]
    heights = [each.accuracy(PGD) for each in robust]
    errors = [[h - p.interval[0] for h, p in zip(heights, robust, strict=True)],
              [p.interval[1] - h for h, p in zip(heights, robust, strict=True)]]  # fmt: skip
    axes.plot(minutes, [each.accuracy("natural") for each in robust], "o--", color="tab:gray", label="natural images")
    axes.errorbar(minutes, heights, yerr=errors, fmt="o-", capsize=3, color="tab:blue", label=f"{PGD}, 95 % interval")
    for each in points:
        if each.method == "none":
            axes.plot(
                [each.minutes], [each.accuracy(PGD)], "x", color="tab:red", label=f"{PGD}, trained without attack"
            )
    axes.set(xlabel="minutes of training", ylabel="test accuracy (%)", ylim=(0, 100), xlim=(0, None))
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    write(folder / "minutes.png", png.getvalue())


def drawn(points: Sequence[Point]) -> Table:
    """The figures as a table."""
    table = Table(title=f"accuracy on {points[0].samples} test images", title_justify="left")
    for name in ("method", "images", "minutes", "natural", PGD, "95 % interval"):
        table.add_column(name, justify="right")
    for each in points:
        low, high = each.interval
        accuracies = (f"{each.accuracy(name):.1f} %" for name in ("natural", PGD))
        table.add_row(each.method, f"{each.images:,}", f"{each.minutes:.1f}", *accuracies, f"{low:.1f} to {high:.1f} %")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line on the error stream."""
    return run_command(command, arguments)


def command(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after the program's name; returns the exit code."""
    parser = Parser(prog="robustness_over_minutes", description="Robust accuracy over minutes of training.")
    parser.add_argument(
        "--cell", default="ROBUST_ZCP", help="published cell or Genotype(...) text (default ROBUST_ZCP)"
    )
    parser.add_argument("--preset", default="quick", help="protocol of nas.train (default quick)")
    parser.add_argument("--dataset", default="cifar10", help="as of nas.train (default cifar10)")
    parser.add_argument("--data-dir", default="data", help="where cifar10, cifar100 and svhn are kept (default data)")
    parser.add_argument(
        "--images", nargs="*", type=positive, default=[3000, 6000, 12000], metavar="N",
        help="training images before all of them (default 3000 6000 12000)",
    )  # fmt: skip
    parser.add_argument("--samples", type=positive, default=1000, help="test images attacked (default 1000)")
    parser.add_argument("--threads", type=positive, default=2, help="threads of torch's operations (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and noise (default 0)")
    parser.add_argument("--out", type=output_folder, required=True, metavar="FOLDER", help="folder of the output")
    options = parser.parse_args(argv)
    dataset = ["--dataset", options.dataset, "--data-dir", options.data_dir, "--threads", str(options.threads)]
    words = ["--cell", options.cell, "--preset", options.preset, "--seed", str(options.seed)]
    plans = {f"images-{count}": ["--images", str(count)] for count in sorted(options.images)}
    plans |= {"all": [], "none": ["--method", "none"]}
    points = []
    for name, own in plans.items():
        points.append(measure(options.out / name, [*words, *own], dataset, options.samples))
        save(points, options.out)
    Terminal().print(drawn(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
