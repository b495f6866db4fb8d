"""Batches and orders in which the classes take turns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from nas.errors import UserError
from nas.images.data import ImageData, balanced_order, load_data, probe_batch
from tests.nas.splits import split_of


@pytest.mark.parametrize("counts", [(10, 10, 10), (3, 20, 7)])
def test_classes_take_turns(counts: tuple[int, ...]) -> None:
    split = split_of(*counts)
    order = balanced_order(split, 0)
    assert sorted(order.tolist()) == list(range(len(split.labels)))
    assert not torch.equal(order, balanced_order(split, 1))
    for n in range(1, len(order)):
        seen = np.bincount(split.labels[order[:n]], minlength=len(counts))
        unfinished = [has for has, count in zip(seen, counts, strict=True) if has < count]
        assert not unfinished or max(seen) - min(unfinished) <= 1


def test_the_order_begins_with_balanced_batches() -> None:
    split = load_data("digits", image_size=8).test
    order = balanced_order(split, 4)
    for n in (7, 100, 340):
        assert torch.equal(split.images[order[:n]] / 255, probe_batch(split, n, 4)[0])
    assert sorted(order.tolist()) == list(range(len(split.labels)))


@pytest.mark.parametrize("n", [1, 3, 10, 23, 50])
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_probe_batch_is_balanced_and_without_repeats(digits: ImageData, n: int, seed: int) -> None:
    images, labels = probe_batch(digits.train, n, seed)
    assert images.shape == (n, 3, 32, 32)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    counts = Counter(labels.tolist())
    assert {counts[digit] for digit in range(10)} <= {n // 10, n // 10 + 1}
    assert len({image.numpy().tobytes() for image in images}) == n


def test_probe_batch_is_pixels_over_255(digits: ImageData) -> None:
    images, labels = probe_batch(digits.train, 200, 0)
    assert (float(images.min()), float(images.max())) == (0.0, 1.0)
    pixels = (images * 255).round().to(torch.uint8)
    assert torch.equal(images, pixels.to(torch.float32) / 255)
    train = digits.train
    known = {(image.numpy().tobytes(), int(label)) for image, label in zip(train.images, train.labels, strict=True)}
    assert all((image.numpy().tobytes(), int(label)) in known for image, label in zip(pixels, labels, strict=True))


def test_a_smaller_batch_is_the_beginning_of_a_larger_one(digits: ImageData) -> None:
    images, labels = probe_batch(digits.train, 50, 7)
    for n in (1, 8, 10, 49):
        first_images, first_labels = probe_batch(digits.train, n, 7)
        assert torch.equal(first_images, images[:n])
        assert torch.equal(first_labels, labels[:n])


def test_probe_batch_depends_on_its_seed_alone(digits: ImageData) -> None:
    images, _ = probe_batch(digits.train, 20, 3)
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), str(np.random.get_state())
    assert torch.equal(probe_batch(digits.train, 20, 3)[0], images)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]
    assert not torch.equal(probe_batch(digits.train, 20, 4)[0], images)
    assert len({tuple(probe_batch(digits.train, 3, seed)[1].tolist()) for seed in range(10)}) > 1


def test_probe_batch_is_the_same_on_every_machine() -> None:
    split = split_of(20, 20, 20)
    images, labels = probe_batch(split, 8, 0)
    assert (images[:, 0, 0, 0] * 255).round().int().tolist() == [36, 29, 25, 56, 47, 33, 50, 11]
    assert labels.tolist() == [2, 0, 1, 2, 0, 1, 2, 0]


def test_probe_batch_uses_up_the_scarcest_class() -> None:
    split = split_of(9, 2, 9)
    limits = set()
    for seed in range(12):
        expected = r"batch of 12 images needs 4 of class 'c1', got 2; expected a batch of at most \d$"
        with pytest.raises(UserError, match=expected) as caught:
            probe_batch(split, 12, seed)
        limit = int(str(caught.value).rpartition(" ")[2])
        assert Counter(probe_batch(split, limit, seed)[1].tolist())[1] == 2
        with pytest.raises(UserError, match="needs 3 of class 'c1', got 2"):
            probe_batch(split, limit + 1, seed)
        limits.add(limit)
    assert limits == {6, 7, 8}


def test_probe_batch_may_take_every_image() -> None:
    _, labels = probe_batch(split_of(2, 2), 4, 0)
    assert sorted(labels.tolist()) == [0, 0, 1, 1]
    with pytest.raises(UserError, match=r"batch of 5 images needs 3 of class 'c[01]', got 2; .* at most 4$"):
        probe_batch(split_of(2, 2), 5, 0)


def test_probe_batch_of_a_class_without_images() -> None:
    with pytest.raises(UserError, match=r"needs 1 of class 'c2', got 0; expected a batch of at most [0-2]$"):
        probe_batch(split_of(3, 3, 0), 3, 0)


def test_probe_batch_checks_its_numbers(digits: ImageData) -> None:
    with pytest.raises(UserError, match="probe batch must have at least 1 image, got 0"):
        probe_batch(digits.train, 0, 0)
    with pytest.raises(UserError, match="seed must be at least 0, got -1"):
        probe_batch(digits.train, 1, -1)
