"""Images and labels as users bring them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from proxies.engine.batches import as_batch

IMAGES = np.random.default_rng(0).random((4, 3, 2, 2))
TENSOR = torch.from_numpy(IMAGES.copy())


@pytest.mark.parametrize(
    "images",
    [
        TENSOR,
        TENSOR.clone().requires_grad_(),
        IMAGES,
        IMAGES.tolist(),
        list(IMAGES),
        list(TENSOR),
        IMAGES[:, ::-1][:, ::-1],
        np.asfortranarray(IMAGES),
    ],
)
def test_images(images: Any) -> None:
    found, _ = as_batch(images, [0, 1, 2, 0])
    assert torch.equal(found, TENSOR) and not found.requires_grad


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2], (0, 1, 2), np.array([0, 1, 2], np.uint8), [np.int32(0), np.int32(1), 2], torch.tensor([0, 1, 2]).int()],
)
def test_whole_numbers_are_labels(labels: Any) -> None:
    found = as_batch(TENSOR[:3], labels)[1]
    assert found.dtype == torch.int64 and found.tolist() == [0, 1, 2]


@pytest.mark.parametrize("labels", [torch.tensor([0.0, 1.0]), torch.tensor([False, True])])
def test_other_labels_stay_what_they_are(labels: torch.Tensor) -> None:
    assert as_batch(TENSOR[:2], labels)[1].dtype == labels.dtype


@pytest.mark.parametrize("images", ["abc", None, [[1.0], [1.0, 2.0]], object(), [TENSOR[0], TENSOR[0, 0]]])
def test_what_is_no_array(images: Any) -> None:
    said = f"^images must be a tensor or an array, got {type(images).__name__}: "
    with pytest.raises(ValueError, match=said) as caught:
        as_batch(images, [0])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="^labels must be a tensor or an array, got str: "):
        as_batch(TENSOR, "abc")


@pytest.mark.parametrize(
    ("images", "got"), [(TENSOR.to("meta"), "torch.strided on the device meta"), (TENSOR.to_sparse(), "torch.sparse")]
)
def test_tensors_without_values(images: torch.Tensor, got: str) -> None:
    with pytest.raises(ValueError, match=f"^images must be a dense tensor with values, got {got}"):
        as_batch(images, [0, 1, 2, 0])


def test_what_was_made_in_inference_mode_can_be_differentiated() -> None:
    with torch.inference_mode():
        images = torch.rand(2, 3, 4, 4)
    found, _ = as_batch(images, [0, 1])
    assert not found.is_inference() and torch.equal(found, images)
