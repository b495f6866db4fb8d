"""``python -m benchmarks.gpu``: measures until the time is over; a measurement that fails does not end the others."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.output import page_of, show, store
from benchmarks.gpu.plan import FULL, QUICK, Measurement, measurements
from benchmarks.gpu.tables import SECTIONS, Row
from benchmarks.gpu.timing import Budget
from nas.cli import bounds
from nas.cli.printing import Terminal
from nas.cli.running import run_command
from nas.device import torch_device
from nas.errors import OutOfMemory, UserError
from nas.executors.failures import machine_failure
from nas.runs import environment

FORMAT = 1
PACKAGES = ("torchvision", "torchattacks", "triton")


def command(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="speed on an accelerator")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="tiny networks, to try the program")
    parser.add_argument(
        "--budget", type=float, default=240.0,
        help="seconds after which no measurement is begun (default: 240); the last one may take a minute more",
    )  # fmt: skip
    parser.add_argument("--compile", action="store_true", help="also train with torch.compile: minutes more")
    parser.add_argument("--out", type=Path, help="JSON file to write; the page beside it ends in .html")
    options = parser.parse_args(argv)
    bounds.positive("budget", options.budget)
    if options.out is not None and options.out.suffix != ".json":
        raise UserError(f"--out must be a file that ends in .json, got '{options.out}'")
    device = torch.device(torch_device(options.device))
    plan = replace(QUICK if options.quick else FULL, compile=options.compile)
    found = described(device, plan.cell, quick=options.quick, seconds=options.budget)
    terminal = Terminal(width=None if sys.stdout.isatty() else 190)

    def keep() -> None:
        if options.out is not None:
            store(found, options.out)

    failed = run(found, measurements(plan, device), Budget(options.budget), keep, terminal.say)
    show(found, terminal)
    if options.out is not None:
        terminal.say(f"figures: {options.out}; page: {page_of(options.out).resolve()}")
    return 1 if failed else 0


def described(device: torch.device, cell: str, *, quick: bool, seconds: float) -> dict[str, Any]:
    """The figures before the first measurement: what they are measured on, and no rows."""
    return {
        "format": FORMAT, "started": datetime.now(timezone.utc).isoformat(timespec="seconds"), "seconds": 0.0,
        "budget_seconds": seconds, "quick": quick, "cell": cell, "skipped": [],
        "tf32": {
            "convolutions": torch.backends.cudnn.allow_tf32, "matrix products": torch.backends.cuda.matmul.allow_tf32,
        },
        "versions": environment.versions(PACKAGES), "hardware": environment.hardware(str(device)),
        "git_commit": environment.git_commit(), "rows": {name: [] for name in SECTIONS},
    }  # fmt: skip


def run(
    found: dict[str, Any],
    planned: Iterable[Measurement],
    budget: Budget,
    keep: Callable[[], None],
    say: Callable[[str], None],
) -> bool:
    """Makes the measurements, adds their rows to ``found`` and calls ``keep`` after each.

    :return: whether one failed for another reason than a lack of memory.
    """
    failed = False
    for each in planned:
        if budget.over:
            found["skipped"].append(f"{each.section}: {each.name}")
            continue
        before = budget.spent
        row, error = measured(each, found["rows"])
        failed |= error is not None and not isinstance(machine_failure(error), OutOfMemory)
        found["rows"][each.section].append(row)
        found["seconds"] = round(budget.spent, 3)
        say(f"{budget.spent:6.1f} s  {each.section}: {each.name} ({budget.spent - before:.1f} s)")
        keep()
    keep()
    return failed


def measured(each: Measurement, rows: dict[str, list[Row]]) -> tuple[Row, Exception | None]:
    """The row of a measurement, which leaves no memory behind; the error, if it has one, is its only figure."""
    problem: Exception | None = None
    try:
        row = {"name": each.name, **each.make(rows)}
    except Exception as error:  # the time on a device is dear: the other measurements are worth having
        problem = error.with_traceback(None)  # whose frames hold the network
        row = {"name": each.name, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return row, problem


if __name__ == "__main__":
    sys.exit(run_command(command))
