"""Which images are trained on, how they are cropped and flipped, and in what order they come."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.errors import UserError
from nas.images.augmentation import PADDING, Augmentation
from nas.images.data import load_data
from nas.training.images import TrainingImages, held_out, number_held_out, pixel_statistics
from tests.nas.splits import split_of


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coloured(n: int = 64, h: int = 6, w: int = 9) -> Tensor:
    """Different uint8 images ``(n, h, w, 3)`` without black pixels."""
    return torch.randint(1, 256, (n, h, w, 3), generator=generator(7), dtype=torch.uint8)


def windows(image: Tensor, flip: bool) -> list[Tensor]:
    """Every crop of the padded image, and its mirror images: float32 ``(C, H, W)``."""
    h, w, c = image.shape
    padded = torch.zeros(h + 2 * PADDING, w + 2 * PADDING, c, dtype=torch.uint8)
    padded[PADDING:-PADDING, PADDING:-PADDING] = image
    found = []
    for i in range(2 * PADDING + 1):
        for j in range(2 * PADDING + 1):
            crop = padded[i : i + h, j : j + w].permute(2, 0, 1).float() / 255
            found += [crop, crop.flip(2)] if flip else [crop]
    return found


@pytest.mark.parametrize("flip", [False, True])
def test_every_image_becomes_one_of_its_crops(flip: bool) -> None:
    images = coloured()
    made = Augmentation(crop=True, flip=flip)(images, generator())
    assert made.shape == (64, 3, 6, 9) and made.dtype == torch.float32
    assert made.is_contiguous(memory_format=torch.channels_last)
    chosen = set()
    for image, found in zip(images, made, strict=True):
        matches = [k for k, window in enumerate(windows(image, flip)) if torch.equal(window, found)]
        assert len(matches) == 1
        chosen.add(matches[0])
    assert len(chosen) > 32  # each image has a draw of its own
    if flip:
        assert 16 < sum(k % 2 for k in chosen) < 0.8 * len(chosen)


def test_all_offsets_are_drawn() -> None:
    images = coloured(1).expand(4000, -1, -1, -1)
    made = Augmentation(crop=True, flip=True)(images, generator())
    assert len({each.numpy().tobytes() for each in made}) == 2 * (2 * PADDING + 1) ** 2


def test_flips_mirror_about_half_of_the_images() -> None:
    images = coloured(400)
    made = Augmentation(crop=False, flip=True)(images, generator())
    plain = images.permute(0, 3, 1, 2).float() / 255
    same = [torch.equal(a, b) for a, b in zip(made, plain, strict=True)]
    assert all(torch.equal(a, b.flip(2)) for a, b, equal in zip(made, plain, same, strict=True) if not equal)
    assert 160 < sum(same) < 240


def test_no_augmentation_changes_nothing_but_the_type() -> None:
    images = coloured(3)
    assert torch.equal(Augmentation(crop=False, flip=False)(images, generator()) * 255, images.permute(0, 3, 1, 2))


def test_held_out_images_are_not_trained_on() -> None:
    split = split_of(20, 20, 20)
    for images, validation, sizes in ((None, 6, (54, 6)), (12, 0.2, (12, 12)), (None, 0, (60, 0))):
        trained, held = held_out(split, images, validation, 0)
        assert (len(trained), len(held)) == sizes
        assert not set(trained.tolist()) & set(held.tolist())
        for part in (trained, held):
            assert np.ptp(np.bincount(split.labels[part], minlength=3)) <= 1
    one, other = (held_out(split, None, 6, seed)[1] for seed in (0, 1))
    assert not torch.equal(one, other)


def test_a_class_without_images_to_train_on_is_named() -> None:
    with pytest.raises(UserError, match="--validation 12 leaves no training images of class 'c0'"):
        held_out(split_of(3, 20, 7), None, 12, 0)


def test_the_lesser_of_a_thousand_and_a_tenth_is_held_out() -> None:
    totals = {50_000: 1000, 73_257: 1000, 10_000: 1000, 9_999: 1000, 9_990: 999, 1_442: 144, 1_050: 105, 80: 8, 4: 0}
    assert {total: number_held_out(total, None) for total in totals} == totals
    assert (number_held_out(1_050, 1), number_held_out(1_050, 0.5), number_held_out(1_050, 0)) == (1, 525, 0)
    assert [len(part) for part in held_out(split_of(40, 40), None, None, 0)] == [72, 8]


@pytest.mark.parametrize(
    ("images", "validation", "message"),
    [
        (None, None, "^a training needs 2 training images, got 1$"),
        (None, 1000.0, "^--validation 1000 needs 1002 training images, got 1$"),
        (3, None, "^--images 3 needs 3 training images, got 1$"),
        (3, 0.0, "^--images 3 and --validation 0 need 3 training images, got 1$"),
    ],
)
def test_only_options_that_were_given_are_named(images: int | None, validation: float | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        held_out(split_of(1), images, validation, 0)


@pytest.mark.parametrize(("images", "validation"), [(55, 6), (None, 59), (None, 61), (1, 0)])
def test_more_images_than_there_are(images: int | None, validation: float) -> None:
    with pytest.raises(UserError, match="training images, got 60"):
        held_out(split_of(20, 20, 20), images, validation, 0)


def test_pixel_statistics_are_those_of_the_pixels() -> None:
    split = load_data("digits", image_size=8).train
    data = TrainingImages.chosen(split, torch.arange(100), "cpu")
    mean, std = pixel_statistics(data.images)
    pixels = split.images[:100].numpy() / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-9)
    assert pixel_statistics(torch.full((2, 3, 3, 3), 51, dtype=torch.uint8)) == ((0.2,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("total", "size", "sizes"),
    [(2, 2, [2]), (3, 2, [3]), (4, 2, [2, 2]), (5, 2, [3, 2]), (4, 3, [2, 2]), (7, 3, [3, 2, 2]), (9, 64, [9])],
)
def test_no_batch_has_one_image(total: int, size: int, sizes: list[int]) -> None:
    data = TrainingImages.chosen(split_of(total), torch.arange(total), "cpu")
    batches = data.shuffled(size, Augmentation(crop=False, flip=False), generator(), generator())
    assert [len(labels) for _, labels in batches] == sizes and data.steps(size) == len(sizes)


def test_the_number_of_batches_is_as_before_wherever_each_has_two_images() -> None:
    for total in range(2, 80):
        data = TrainingImages.chosen(split_of(total), torch.arange(total), "cpu")
        for size in range(2, 20):
            before = math.ceil(total / size)
            assert data.steps(size) == (before - 1 if total // before < 2 else before)


def test_an_epoch_shows_every_image_once() -> None:
    split = split_of(25, 25)
    data = TrainingImages.chosen(split, torch.arange(50), "cpu")
    plain = Augmentation(crop=False, flip=False)
    batches = list(data.shuffled(16, plain, generator(1), generator()))
    assert [len(labels) for _, labels in batches] == [13, 13, 12, 12] and data.steps(16) == 4
    numbers = torch.cat([images[:, 0, 0, 0] * 255 for images, _ in batches]).round().long()
    assert sorted(numbers.tolist()) == list(range(50)) and numbers.tolist() != list(range(50))
    assert torch.equal(torch.cat([labels for _, labels in batches]), split.labels[numbers])
    again = torch.cat([images for images, _ in data.shuffled(16, plain, generator(1), generator())])
    assert torch.equal(again, torch.cat([images for images, _ in batches]))
    in_order = torch.cat([images for images, _ in data.in_order(16)])
    assert torch.equal(in_order[:, 0, 0, 0] * 255, torch.arange(50))
