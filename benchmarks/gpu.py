"""Speed of training and scoring on an accelerator, and whether its scores equal the CPU's.

    python -m benchmarks.gpu [--device cuda] [--cell ROBUST_ZCP] [--steps 10] [--candidates 8]

Prints, and with ``--out FILE`` writes as JSON:

* the rate of a large matrix product in float32 (without TF32), TF32 and bfloat16;
* training steps of the ``table`` preset (PGD-7, 36 channels, 20 layers, batch 128) and of ``tiny_robustbench``, in
  float32, bfloat16 and, with ``--compile``, compiled: images a second, share of the matrix product's rate, hours;
* scoring with the proxy ``robust`` at 36 channels, 20 layers, 50 and 32 images, as the paper's search does: seconds a
  candidate, and GPU-days for its 214 candidates;
* whether a score on the accelerator equals the CPU's.

A multiply-add of convolutions and linear layers counts as 2 operations. A forward pass, the gradients of the images and
the gradients of the weights count equally. The images are the embedded digits at 32x32; their content has no effect on
the time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.training import our_step
from nas.cli.running import run_command
from nas.device import torch_device
from nas.executors.candidates import Candidate
from nas.images.data import load_data, probe_batch
from nas.models.architecture import Architecture
from nas.runs import environment
from nas.searching.scoring import Scorer
from nas.training.config import TrainConfig
from nas.training.images import pixel_statistics
from proxies import get_proxy
from search_spaces import get_space
from search_spaces.base import NetworkSpec

PRESETS = ("table", "tiny_robustbench")
CIFAR_IMAGES = 49_000  # CIFAR-10's training images without the 1,000 that are held out
PUBLISHED_CANDIDATES = 214


def seconds_of(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Mean seconds of ``repeats`` consecutive calls, after two calls to warm up."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(2):
        work()
    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    wait()
    return (time.perf_counter() - started) / repeats


def matrix_product_rates(device: torch.device, size: int) -> dict[str, float]:
    """FLOP/s for each number format."""
    rates = {}
    for name, dtype, fast in (("float32", torch.float32, False), ("tf32", torch.float32, True),
                              ("bfloat16", torch.bfloat16, False)):  # fmt: skip
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = fast
        try:
            a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
            rates[name] = 2 * size**3 / seconds_of(lambda a=a, b=b: a @ b, device, 10)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
    return rates


def training(options: argparse.Namespace, device: torch.device, rates: dict[str, float]) -> list[dict[str, Any]]:
    """The figures of each preset and precision."""
    split = load_data("digits").train
    mean, std = pixel_statistics(split.images.permute(0, 2, 3, 1))
    precisions = ["float32", *(["bfloat16"] if device.type == "cuda" else [])]
    rows = []
    for preset, precision, compiled in itertools.product(
        options.presets, precisions, [False, *([True] if options.compile else [])]
    ):
        config = TrainConfig(
            cell=options.cell, preset=preset, precision=precision, compile=compiled, learning_rate=0.01,
            batch_size=options.batch_size, channels=options.channels, layers=options.layers,
        )  # fmt: skip
        spec = {"channels": config.channels or 0, "layers": config.layers or {"table": 20}.get(preset, 8)}
        architecture = Architecture(
            family="darts", genotype=options.cell, classes=split.classes, mean=mean, std=std,
            auxiliary=config.auxiliary > 0, **spec,
        )  # fmt: skip
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        each = seconds_of(our_step(architecture, split, config, str(device)), device, options.steps)
        steps = config.attack_steps or 0
        operations = 2 * architecture.cost().macs * (steps * 2 + 3)  # for one image
        images = config.batch_size / each
        tf32 = precision == "float32" and device.type == "cuda" and torch.backends.cudnn.allow_tf32  # convolutions
        rate = rates["tf32" if tf32 else precision]
        rows.append({
            "preset": preset, "precision": precision, "compiled": compiled, **spec, "batch": config.batch_size,
            "images_per_second": images, "of_matrix_product": images * operations / rate,
            "minutes_per_epoch": CIFAR_IMAGES / images / 60, "hours": config.epochs * CIFAR_IMAGES / images / 3600,
            "memory_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
        })  # fmt: skip
    return rows


def scoring(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds for each candidate, and the relative difference of a score to the CPU's."""
    space = get_space("darts")
    spec = NetworkSpec(channels=options.channels or 36, layers=options.layers or 20)
    images, labels = probe_batch(load_data("digits").train, 50, 0)
    proxy = get_proxy("robust", ntk_images=50, curvature_images=32)
    names = [options.cell, *("DARTS_V2", "PDARTS", "RACL")]
    cells = [space.parse(name) for name in names]

    def candidates(count: int) -> list[Candidate[Any]]:
        chosen = list(itertools.islice(itertools.cycle(cells), count))
        keys = [space.canonical(each) for each in chosen]
        return [Candidate(id=n, key=key, genotype=cell) for n, (key, cell) in enumerate(zip(keys, chosen, strict=True))]

    def scorer(where: str) -> Scorer[Any]:
        return Scorer(space, spec, (proxy,), images, labels, seed=0, device=where)

    ours = scorer(str(device))
    queue = iter(candidates(options.candidates + 2))

    def scored(scorer: Scorer[Any], candidate: Candidate[Any]) -> float:
        trial = scorer(candidate)
        if trial.status != "ok":
            raise RuntimeError(f"a candidate failed: {trial.error}")
        return trial.scores["robust"]

    each = seconds_of(lambda: scored(ours, next(queue)), device, options.candidates)
    (first,) = candidates(1)
    here, there = (scored(scorer(where), first) for where in (str(device), "cpu"))
    return {
        "channels": spec.channels, "layers": spec.layers, "seconds_per_candidate": each,
        "gpu_days_of_214": PUBLISHED_CANDIDATES * each / 86400,
        "score": here, "score_on_cpu": there, "relative_difference": abs(here - there) / abs(there),
    }  # fmt: skip


def command(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="an accelerator at this work")
    parser.add_argument("--device", default="cuda", help="(default: cuda)")
    parser.add_argument("--cell", default="ROBUST_ZCP", help="published cell (default: ROBUST_ZCP)")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS, help="(default: both)")
    for name, default in (("steps", 10), ("candidates", 8), ("batch-size", 128), ("matrix", 8192)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    for name in ("channels", "layers"):
        parser.add_argument(f"--{name}", type=int, help="of all networks (default: the preset's; scoring: 36, 20)")
    parser.add_argument("--compile", action="store_true", help="time torch.compile as well")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(argv)
    device = torch.device(torch_device(options.device))
    rates = matrix_product_rates(device, options.matrix)
    found = {
        "matrix_product": rates, "training": training(options, device, rates), "scoring": scoring(options, device),
        "versions": environment.versions(), "hardware": environment.hardware(str(device)),
        "git_commit": environment.git_commit(),
    }  # fmt: skip
    show(found)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def show(found: dict[str, Any]) -> None:
    """Prints the figures, and the versions, hardware and commit that they were measured with."""
    console = Console(width=140)
    rates = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in found["matrix_product"].items())
    console.print(f"matrix product: {rates}", highlight=False)
    table = Table(title="training", title_justify="left")
    for name in ("preset", "precision", "size", "images/s", "of matrix product", "epoch", "whole training", "memory"):
        table.add_column(name, justify="right")
    for row in found["training"]:
        memory = "" if row["memory_gib"] is None else f"{row['memory_gib']:.1f} GiB"
        table.add_row(
            row["preset"], row["precision"] + " compiled" * row["compiled"],
            f"{row['channels']} channels, {row['layers']} layers, batch {row['batch']}",
            f"{row['images_per_second']:,.0f}", f"{row['of_matrix_product']:.1%}",
            f"{row['minutes_per_epoch']:.1f} min", f"{row['hours']:.1f} h", memory,
        )  # fmt: skip
    console.print(table)
    each = found["scoring"]
    console.print(
        f"scoring: {each['seconds_per_candidate']:.3f} s a candidate ({each['channels']} channels, {each['layers']}"
        f" layers), {PUBLISHED_CANDIDATES} candidates in {each['gpu_days_of_214']:.5f} days; score {each['score']:.6g},"
        f" on the CPU {each['score_on_cpu']:.6g}, relative difference {each['relative_difference']:.1e}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    about = f"torch {found['versions']['torch']}, {found['hardware']}, commit {found['git_commit']}"
    console.print(about, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run_command(command))
