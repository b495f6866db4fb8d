"""What training and attacks will need is told before a search begins."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nas.search
from tests.nas.commands import slip

WORDS = "--channels 2 --layers 2 --proxy params --budget 2 --population 2 --tournament 1 --no-report --out run"


def make_folder(root: Path, counts: dict[str, int], size: tuple[int, int] = (32, 32), classes: str = "ab") -> None:
    """``counts`` images of each class in each part; ``size`` is width and height."""
    for part, count in counts.items():
        for name in classes:
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.mark.parametrize(
    ("counts", "size", "words", "message"),
    [
        ({"train": 40}, (16, 16), "--train quick", "--train quick: 'images' has no folder 'test'"),
        ({"train": 2, "test": 2}, (16, 16), "--train table", "--train table: an auxiliary head needs images of at"),
        ({"train": 2, "test": 2}, (6, 6), "--train quick", "--train quick: the network needs images of at least 8x8"),
        ({"train": 10, "test": 2}, (32, 32), "--train table --space nasbench201 --layers 3", "have no auxiliary head"),
    ],
)
def test_what_a_training_lacks(
    counts: dict[str, int],
    size: tuple[int, int],
    words: str,
    message: str,
    somewhere_else: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_folder(Path("images"), counts, size)
    assert message in slip(capsys, *shlex.split(f"{WORDS} --dataset folder:images {words}"))
    assert not Path("run").exists()


def test_test_images_of_another_size(somewhere_else: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(Path("images"), {"train": 10})
    make_folder(Path("images"), {"test": 2}, (40, 32))
    said = slip(capsys, *shlex.split(f"{WORDS} --dataset folder:images --train quick"))
    assert "--train quick: test images of folder:images have 40x32 pixels, expected 32x32" in said


def test_attacks_that_are_not_installed(
    somewhere_else: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nas.searching.ahead.find_spec", lambda name: None)
    said = slip(capsys, *shlex.split(f"{WORDS} --train quick"))
    assert "--train quick: attacks need the package torchattacks, which is not installed" in said


def test_what_is_there_is_enough(somewhere_else: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(Path("images"), {"train": 10, "test": 2})
    monkeypatch.setattr(nas.search, "train_and_attack", lambda *_: 0)
    for preset in ("quick", "table"):
        words = f"{WORDS}-{preset} --quiet --dataset folder:images --train {preset}"
        assert nas.search.main(shlex.split(words)) == 0
