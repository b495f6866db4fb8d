"""A training of seconds, interrupted where a test wants it, and when two are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.models.checkpoint import read_checkpoint
from nas.training import TrainConfig, Trainer

TINY: dict[str, Any] = {
    "cell": "DARTS_V2", "channels": 2, "layers": 2, "image_size": 8, "images": 60, "validation": 20, "batch_size": 16,
    "epochs": 3, "validation_steps": 2, "threads": 1,
}  # fmt: skip


# Every part that an epoch changes: momentum, the average, drop path, crops, flips, the adversary's noise.
EVERYTHING = {**TINY, "epochs": 4, "ema": 0.9, "drop_path": 0.3, "flip": True, "gradient_clip": 1.0, "method": "trades"}


def trained(out: str, **options: Any) -> Path:
    return Trainer(TrainConfig(**{**TINY, **options}), out=out).run().path


def assert_equal(a: Path, b: Path, name: str) -> None:
    """Two checkpoints that hold the same, bit for bit, but for the times."""
    ours, others = read_checkpoint(a / "train" / name), read_checkpoint(b / "train" / name)
    assert ours.weights.keys() == others.weights.keys()
    for key, value in ours.weights.items():
        assert torch.equal(value, others.weights[key]), key
    assert ours.training.keys() == others.training.keys()
    for x, y in zip(ours.training.get("momenta", ()), others.training.get("momenta", ()), strict=True):
        assert torch.equal(x, y)
    assert timeless(a) == timeless(b)


def timeless(run: Path) -> list[dict[str, Any]]:
    lines = (run / "train/metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0, "images_per_second": 0} for line in lines]


class Stop(Exception):
    pass


def interrupted(out: str, after: int, error: type[BaseException] = Stop, **options: Any) -> None:
    """A training that ends in the middle of the epoch that follows ``after``."""
    shares: list[float] = []

    def stop(share: float) -> None:
        shares.append(share)
        if len(shares) == 4 * after + 2:
            raise error

    with pytest.raises(error):
        Trainer(TrainConfig(**{**TINY, **options}), out=out).run(watch_step=stop)
