"""Every proxy with its options, and the slow formula that its value must equal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from tests.proxies import slow_formulas as slow
from tests.proxies import slow_passes as passes
from tests.proxies.networks import (
    IMAGES,
    batch_kernel,
    layers,
    literal,
    single_image_gradients,
    step_change,
    triple_sum,
)

Reference = Callable[[nn.Module, Tensor, Tensor], float]

NTK_IMAGES, CURVATURE_IMAGES, T, H = IMAGES, 4, 30.0, 5.0
AZ = {"images": 5, "seed": 2}
STEP = {"images": 3, "beta": 0.3, "epsilon": 0.1}
WHOLE = {"images": IMAGES}
ROBUST = {"ntk_images": NTK_IMAGES, "curvature_images": CURVATURE_IMAGES, "t": T, "h": H}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A proxy with its options and its formula.

    ``undefined`` says which networks have no value.
    """

    name: str
    options: dict[str, Any]
    reference: Reference
    undefined: Callable[[nn.Module], bool] = field(default=lambda network: False)


def robust(function: str, norm: str) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        if norm == "eval":
            kernel = triple_sum(single_image_gradients(network, images, labels, function))
        else:
            kernel = batch_kernel(network, images, labels, function)
        x, y = images[:CURVATURE_IMAGES], labels[:CURVATURE_IMAGES]
        change = step_change(literal(network, norm), x, y, H) / H
        curvature = sum(each.norm().item() ** 2 for each in change) / CURVATURE_IMAGES
        return -math.log(math.exp(T * kernel) * curvature)

    return value


def robust_released(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    gradient = single_image_gradients(network, images, labels, "loss").sum(0)  # M
    parameters = gradient.split([parameter.numel() for parameter in network.parameters()])
    large = [each for each in parameters if len(each) >= 50][:2]
    kernel = sum(value**2 for each in large for value in each[:50].tolist()) / (2 * len(images))
    change = step_change(literal(network), images[:CURVATURE_IMAGES], labels[:CURVATURE_IMAGES], H)
    curvature = sum((each / CURVATURE_IMAGES).norm().item() for each in change) / CURVATURE_IMAGES
    return -(T * kernel + math.log(curvature))


def params(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


def macs(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    copied, counts = literal(network), []
    for layer in layers(copied):  # each output is a sum of as many products as a filter has weights
        layer.register_forward_hook(
            lambda layer, inputs, output: counts.append(output[0].numel() * layer.weight[0].numel())
        )
    copied(images)
    return sum(counts)


def conv_count(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return len(layers(network))


TABLE: dict[str, Case] = {
    "robust": Case(name="robust", options=ROBUST, reference=robust("logits", "eval")),
    "robust, loss": Case(name="robust", options={**ROBUST, "function": "loss"}, reference=robust("loss", "eval")),
    "robust, train": Case(name="robust", options={**ROBUST, "norm": "train"}, reference=robust("logits", "train")),
    "robust_released": Case(name="robust_released", options={**ROBUST, "tensors": 2}, reference=robust_released),
    "grad_norm": Case(name="grad_norm", options=WHOLE, reference=passes.grad_norm("train")),
    "grad_norm, eval": Case(name="grad_norm", options={**WHOLE, "norm": "eval"}, reference=passes.grad_norm("eval")),
    "snip": Case(name="snip", options=WHOLE, reference=passes.snip("train")),
    "snip, eval": Case(name="snip", options={**WHOLE, "norm": "eval"}, reference=passes.snip("eval")),
    "plain": Case(name="plain", options=WHOLE, reference=passes.plain("train")),
    "plain, eval": Case(name="plain", options={**WHOLE, "norm": "eval"}, reference=passes.plain("eval")),
    "l2_norm": Case(name="l2_norm", options={}, reference=passes.l2_norm),
    "grasp": Case(name="grasp", options={"images": 4}, reference=passes.grasp("train", 4)),
    "grasp, eval": Case(name="grasp", options={"norm": "eval", "images": 6}, reference=passes.grasp("eval", 6)),
    "fisher": Case(name="fisher", options=WHOLE, reference=passes.fisher("train", False)),
    "fisher, eval": Case(name="fisher", options={**WHOLE, "norm": "eval"}, reference=passes.fisher("eval", False)),
    "fisher, fan-in": Case(name="fisher", options={**WHOLE, "fan_in": True}, reference=passes.fisher("train", True)),
    "jacob_cov": Case(name="jacob_cov", options={}, reference=passes.jacob_cov("train")),
    "jacob_cov, eval": Case(name="jacob_cov", options={"norm": "eval"}, reference=passes.jacob_cov("eval")),
    "synflow": Case(name="synflow", options={}, reference=passes.synflow(None)),
    "synflow_bn": Case(name="synflow_bn", options={}, reference=passes.synflow("train")),
    "synflow_bn, eval": Case(name="synflow_bn", options={"norm": "eval"}, reference=passes.synflow("eval")),
    "naswot": Case(name="naswot", options={}, reference=passes.naswot("train"), undefined=slow.has_no_relu),
    "naswot, eval": Case(
        name="naswot", options={"norm": "eval"}, reference=passes.naswot("eval"), undefined=slow.has_no_relu
    ),
    "zico": Case(name="zico", options={}, reference=passes.zico("train", False)),
    "zico, eval": Case(name="zico", options={"norm": "eval"}, reference=passes.zico("eval", False)),
    "zico, absolute": Case(name="zico", options={"absolute": True}, reference=passes.zico("train", True)),
    "zen": Case(name="zen", options={"images": 3, "repeats": 2, "seed": 1}, reference=slow.zen(3, 2, 1)),
    "az_expressivity": Case(name="az_expressivity", options=AZ, reference=slow.az_expressivity(5, 2)),
    "az_progressivity": Case(
        name="az_progressivity",
        options=AZ,
        reference=slow.az_progressivity(5, 2),
        undefined=slow.has_one_block,
    ),
    "az_trainability": Case(
        name="az_trainability",
        options=AZ,
        reference=slow.az_trainability(5, 2),
        undefined=slow.has_one_block,
    ),
    "az_complexity": Case(name="az_complexity", options={}, reference=macs),
    "croze": Case(name="croze", options=STEP, reference=slow.croze(3, 0.3, 0.1, False)),
    "croze, program": Case(
        name="croze", options={**STEP, "variant": "program"}, reference=slow.croze(3, 0.3, 0.1, True)
    ),
    "snap": Case(
        name="snap",
        options={"images": 7, "repeats": 2, "seed": 3},
        reference=slow.snap(7, 2, 3),
        undefined=slow.has_no_relu,
    ),
    "con_js": Case(name="con_js", options=STEP, reference=slow.con_js(3, 0.3, 0.1)),
    "con_js, program mended": Case(
        name="con_js", options={**STEP, "variant": "program_mended"}, reference=slow.con_js_program(3, 0.3, 0.1)
    ),
    "diverse_capacity": Case(
        name="diverse_capacity", options={}, reference=passes.diverse_capacity, undefined=slow.has_no_relu
    ),
    "params": Case(name="params", options={}, reference=params),
    "macs": Case(name="macs", options={}, reference=macs),
    "conv_count": Case(name="conv_count", options={}, reference=conv_count),
}
