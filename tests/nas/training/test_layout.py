"""The choice between channels_last and contiguous layout, on the CPU with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.models.architecture import Architecture
from nas.training.layout import has_layouts, lay_out, lay_out_faster, one_step


def classifier(family: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    architecture = Architecture(family=family, classes=tuple("abcde"), image_size=(8, 8), **options)
    return architecture.build()


DARTS: dict[str, Any] = {"family": "darts", "genotype": "DARTS_V2", "channels": 2, "layers": 2}
BENCH: dict[str, Any] = {"family": "nasbench201", "genotype": "334413", "channels": 2, "layers": 3}
RESIDUAL: dict[str, Any] = {
    "family": "robust_resnet", "genotype": "bottleneck.rse.silu.d1-w2.d1-w1.d1-w1", "channels": 2, "layers": None,
}  # fmt: skip


def layouts_seen(model: nn.Module, images: Tensor) -> list[bool]:
    """Whether the input of each 3x3 convolution that has several channels is contiguous."""
    seen: list[bool] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.groups == 1
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    "options", [DARTS, BENCH, RESIDUAL, {"family": "resnet18"}], ids=lambda each: str(each["family"])
)
def test_the_network_is_left_in_the_faster_layout(options: dict[str, Any]) -> None:
    model = classifier(**options).double().train()
    images = torch.rand(4, 8, 8, 3, dtype=torch.float64).permute(0, 3, 1, 2)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    passes = partial(one_step, model, images, None)
    found: list[tuple[Tensor, ...]] = []

    def clock(*times: float) -> Callable[[Callable[[], tuple[Tensor, ...]]], float]:
        left = iter(times)

        def seconds(run: Callable[[], tuple[Tensor, ...]]) -> float:
            found.append(run())
            return next(left)

        return seconds

    assert lay_out_faster(model, passes, clock(3.0, 2.0)) == ("contiguous", 1.5)
    assert all(each.is_contiguous() for each in model.parameters()) and layouts_seen(model.eval(), images)[0]
    model.train()
    assert lay_out_faster(model, passes, clock(2.0, 2.0)) == ("channels_last", 1.0)
    four = [each for each in model.parameters() if each.ndim == 4]
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in four)
    assert not layouts_seen(model.eval(), images)[0]
    assert all(now is was for now, was in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert len(found) == 4 and len(found[0]) == 1 + len(parameters)
    for last, contiguous in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(contiguous, last, rtol=1e-3, atol=1e-4)


def test_a_network_of_ones_own_keeps_its_layout() -> None:
    assert not has_layouts(nn.Sequential(nn.Conv2d(3, 4, 3))) and has_layouts(classifier(**DARTS))


def test_a_pass_in_half_precision_and_with_two_heads() -> None:
    model = classifier(**{**DARTS, "layers": 3, "auxiliary": True}).train()
    model.network.auxiliary[1] = nn.Identity()  # type: ignore[union-attr,index,operator,unused-ignore]  # for small maps
    images = torch.rand(4, 3, 8, 8)
    lay_out(model, "contiguous")
    gradients = one_step(model, images, torch.bfloat16)
    assert gradients[0].shape == images.shape and all(bool(each.isfinite().all()) for each in gradients)
    assert all(each.grad is None for each in model.parameters()) and model.training
