"""One model of a user: the modes of the caller do not matter, and what cannot be scored is said in one line."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import proxies
from nas.testing.networks import batch, plain_cnn
from proxies.base import ProxyError

FORWARD = [name for name in proxies.PROXIES if proxies.get_proxy(name).cost == "forward"]  # type: ignore[union-attr]
BACKWARD = [name for name in proxies.PROXIES if proxies.get_proxy(name).cost == "backward"]  # type: ignore[union-attr]


class Around(nn.Module):
    """Computes ``function(network, images)``."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Any]):
        super().__init__()
        self.network = plain_cnn()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(self.network, images)


@pytest.fixture(scope="module")
def expected() -> dict[str, float]:
    return proxies.score(plain_cnn(), *batch())


@pytest.mark.parametrize(
    "mode",
    [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu"), lambda: torch.device("meta")],
    ids=["inference_mode", "no_grad", "autocast", "default device"],
)
def test_the_mode_of_the_caller_does_not_matter(
    expected: dict[str, float], mode: Callable[[], AbstractContextManager[None]]
) -> None:
    model, (images, labels) = plain_cnn(), batch()
    with mode():
        grad = torch.is_grad_enabled()
        assert proxies.score(model, images, labels) == expected
        assert torch.is_grad_enabled() == grad


def test_a_model_and_images_made_in_inference_mode(expected: dict[str, float]) -> None:
    with torch.inference_mode():
        model, (images, labels) = plain_cnn(), batch()
        assert proxies.score(model, images, labels) == expected
    assert proxies.score(model, images, labels) == expected


def test_random_states_are_left_as_they_are() -> None:
    def noisy(network: nn.Module, images: Tensor) -> Tensor:
        scale = 0.01 * random.random() * np.random.rand()
        logits: Tensor = network(images + scale * torch.rand_like(images))
        return logits

    def states() -> tuple[Any, ...]:
        return random.getstate(), repr(np.random.get_state(legacy=False)), torch.get_rng_state().tolist()

    model, before = Around(noisy), states()
    first = proxies.score(model, *batch())
    assert states() == before
    assert proxies.score(model, *batch()) == first


def without_gradients(network: nn.Module, images: Tensor) -> Any:
    with torch.no_grad():
        return network(images)


def in_inference_mode(network: nn.Module, images: Tensor) -> Any:
    with torch.inference_mode():
        return network(images)


@pytest.mark.parametrize(
    "function",
    [without_gradients, in_inference_mode, lambda network, images: network(images).detach()],
    ids=["no_grad", "inference_mode", "detach"],
)
def test_a_forward_without_gradients(function: Any, expected: dict[str, float]) -> None:
    model = Around(function)
    found = proxies.score(model, *batch(), names=FORWARD)
    assert found == pytest.approx({name: expected[name] for name in FORWARD})
    for name in BACKWARD:
        with pytest.raises(ProxyError, match=f"^{name}: the logits have no gradient; expected a forward without torch"):
            proxies.score(model, *batch(), names=[name])


def in_place(network: nn.Module, images: Tensor) -> Any:
    return network(images.sub_(0.5))


def failing(network: nn.Module, images: Tensor) -> Any:
    raise KeyError("no\nsuch layer")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda network, images: (network(images), images), "must give logits (N, classes), got tuple"),
        (lambda network, images: {"logits": network(images)}, "the network must give logits (N, classes), got dict"),
        (lambda network, images: network(images)[0], "the network must give logits (N, classes), got (3,)"),
        (in_place, "the model changes its images in place; expected a forward that leaves its input as it is"),
        (failing, "the model fails on images (10, 3, 8, 8): KeyError: 'no\\nsuch layer'"),
        (lambda network, images: network(images[:, :1]), "the model fails on images (10, 3, 8, 8): Runtime"),
    ],
    ids=["tuple", "dict", "no batch", "in place", "raises", "inside"],
)
def test_models_without_logits(function: Any, said: str) -> None:
    model, (images, labels) = Around(function), batch()
    kept = images.clone()
    for name in FORWARD + BACKWARD:
        with pytest.raises(ValueError, match=re.escape(said)) as caught:
            proxies.score(model, images, labels, names=[name])
        assert "\n" not in str(caught.value)
    assert torch.equal(images, kept)


@pytest.mark.parametrize("name", [*FORWARD, *BACKWARD, "macs"])
def test_images_with_other_channels_than_the_stem(name: str) -> None:
    images, labels = batch()
    for wrong in (images[:, :1], images.permute(0, 2, 3, 1)):
        said = f"images {tuple(wrong.shape)} with {wrong.shape[1]} channels, expected 3 for its first"
        with pytest.raises(ProxyError, match=re.escape(said)):
            proxies.score(plain_cnn(), wrong, labels, names=[name])


def test_an_error_in_the_middle_names_the_proxy() -> None:
    def in_eval_only(network: nn.Module, images: Tensor) -> Any:
        if len(images) == 8:
            raise RuntimeError("eight are\ntoo many")
        return network(images)

    with pytest.raises(ProxyError, match=r"^snip: the model fails on images .*: RuntimeError: eight are too many$"):
        proxies.score(Around(in_eval_only), *batch(), names=["synflow", "snip"])


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
@pytest.mark.parametrize("at", [1, 8])
def test_a_lack_of_memory_is_not_the_models_fault(error: type[Exception], at: int) -> None:
    def greedy(network: nn.Module, images: Tensor) -> Any:
        if len(images) == at:
            raise error("none left")
        return network(images)

    with pytest.raises(error, match="none left"):
        proxies.score(Around(greedy), *batch(), names=["snip"])


def test_a_copy_that_still_uses_the_model_is_refused() -> None:
    model = plain_cnn()
    forward = model[0].forward
    model[0].forward = lambda images: 2 * forward(images)
    with pytest.raises(ProxyError, match=r"a copy of the model computes with '0\.(weight|bias)' of the model itself"):
        proxies.score(model, *batch(), names=["zen"])


def test_a_tensor_that_is_no_buffer_does_not_prevent_counting() -> None:
    mean = torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64)
    counted = proxies.score(Around(lambda network, images: network(images - mean)), *batch(), names=["macs"])
    assert counted == proxies.score(plain_cnn(), *batch(), names=["macs"])


@pytest.mark.parametrize(
    ("model", "got"), [(lambda images: images, "function"), (nn.Linear, "the class Linear, not an object of it")]
)
def test_what_is_no_module(model: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"^model must be a torch.nn.Module, got {got}$"):
        proxies.score(model, *batch())
    with pytest.raises(ValueError, match=f"^model must be a torch.nn.Module, got {got}$"):
        proxies.score_population([model, model], *batch())


def test_arrays_and_lists(expected: dict[str, float]) -> None:
    images, labels = batch()
    assert proxies.score(plain_cnn(), images.numpy(), labels.tolist()) == expected
    assert proxies.score(plain_cnn(), list(images), labels.numpy().astype(np.uint8)) == expected


def test_bytes_are_refused_with_what_to_do() -> None:
    images, labels = batch()
    with pytest.raises(ValueError, match=r"floating-point numbers in \[0, 1\], got torch.uint8; divide bytes by 255"):
        proxies.score(plain_cnn(), (images * 255).numpy().astype(np.uint8), labels)
