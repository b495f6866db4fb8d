"""The network of the DARTS family: a stem, a stack of cells, global average pooling and a linear classifier.

DARTS (Liu et al., ICLR 2019), the CIFAR network: reduction cells at layers ``L // 3`` and ``2 L // 3`` double the
channels and halve the resolution. The ImageNet network begins with two stems instead, which reduce the resolution to an
eighth: a 224x224 image enters the first cell as 28x28. Departures: images of any size, the concatenation of any nodes,
any number of edges per node; the global pooling is the mean over all pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.base import NetworkSpec
from search_spaces.cells.folding import FoldingNetwork
from search_spaces.cells.genotype import Cell, CellStack, reduction_layers
from search_spaces.cells.operations import (
    ACTIVATED,
    OPERATIONS,
    ConvNorm,
    FactorizedReduce,
    SharedReLU,
    in_layout,
    shared_relus,
)

STEM_MULTIPLIER = 3  # the stem has 3 C channels, as published


def first_stem(image_channels: int, channels: int) -> nn.Sequential:
    """The first of the ImageNet network's two stems: to ``channels`` at a quarter of the resolution, and a ReLU.

    The second stem and the first cell read that ReLU.
    """
    half = ConvNorm(image_channels, channels // 2, 3, 2, 1)
    return nn.Sequential(half, nn.ReLU(), ConvNorm(channels // 2, channels, 3, 2, 1), SharedReLU(2))


def second_stem(channels: int) -> ConvNorm:
    """The second of the ImageNet network's two stems: it halves the resolution again."""
    return ConvNorm(channels, channels, 3, 2, 1)


class CellModule(nn.Module):
    """One cell of the network: ``relu(x_{k-2})``, ``relu(x_{k-1})`` -> ``x_k`` ``(N, |concat| C, H', W')``.

    Where several operations or cells apply a ReLU to the same tensor, it is computed once.
    """

    def __init__(self, cell: Cell, c_prev_prev: int, c_prev: int, channels: int, reduction: bool, reduced_before: bool):
        super().__init__()
        self.preprocess0 = (
            FactorizedReduce(c_prev_prev, channels) if reduced_before else ConvNorm(c_prev_prev, channels, 1)
        )
        self.preprocess1 = ConvNorm(c_prev, channels, 1)
        self.operations = nn.ModuleList(
            OPERATIONS[name](channels, 2 if reduction and source < 2 else 1) for name, source in cell.edges
        )
        through_relu = [
            source for (_, source), made in zip(cell.edges, self.operations, strict=True) if isinstance(made, ACTIVATED)
        ]
        self.activations = shared_relus(through_relu, len(cell.nodes) + 1)
        self.sources = [[source for _, source in node] for node in cell.nodes]
        self.concat = cell.concat

    def forward(self, before_last: Tensor, last: Tensor, drop_probability: float = 0.0) -> Tensor:
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        activated: dict[int, Tensor] = {}
        operations = iter(self.operations)
        for sources in self.sources:
            node: Tensor | None = None
            for source in sources:
                operation, state = next(operations), states[source]
                if isinstance(operation, ACTIVATED):
                    if source not in activated:
                        activated[source] = self.activations[source](state)
                    state = activated[source]
                output = operation(state)
                if self.training and drop_probability > 0 and not isinstance(operation, nn.Identity):
                    output = drop_path(output, drop_probability)
                node = output if node is None else node + output
            assert node is not None
            states.append(node)
        return torch.cat([states[entry] for entry in self.concat], dim=1)


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Sets random samples of ``x`` ``(N, C, H, W)`` to zero, scales the others up (Larsson et al., ICLR 2017)."""
    keep = torch.empty(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - probability)
    return x * keep / (1 - probability)


class AuxiliaryHead(nn.Sequential):
    """DARTS' auxiliary classifier on the features of layer ``2 L // 3``; needs features of at least 8x8 pixels.

    That of the ImageNet network needs 7x7 pixels, and has no norm after its second convolution.
    """

    def __init__(self, channels: int, classes: int, imagenet: bool = False):
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=2 if imagenet else 3, padding=0, count_include_pad=False),
            ConvNorm(channels, 128, 1),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False) if imagenet else ConvNorm(128, 768, 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(768, classes),
        )


class CellNetwork(FoldingNetwork):
    """``(N, image_channels, H, W)`` -> logits ``(N, classes)``.

    With an auxiliary head, a network in training mode returns ``(logits, auxiliary logits)``.
    ``drop_path_probability`` has an effect in training mode only; the training schedule sets it.

    :param imagenet: whether it is the ImageNet network, with two stems.
    """

    linear_between = True

    def __init__(self, genotype: CellStack, spec: NetworkSpec, imagenet: bool = False):
        super().__init__()
        self.drop_path_probability = 0.0
        channels, layers = spec.stack
        stem_channels = channels if imagenet else STEM_MULTIPLIER * channels
        self.first_stem = first_stem(spec.image_channels, channels) if imagenet else None
        self.stem = second_stem(channels) if imagenet else ConvNorm(spec.image_channels, stem_channels, 3, padding=1)
        inputs = [state for layer in range(layers) for state in (max(layer - 1, 0), layer)]  # of the cells
        self.activations = shared_relus(inputs[1:] if imagenet else inputs, layers)  # the first stem has its own
        self.cells = nn.ModuleList()
        self.auxiliary: AuxiliaryHead | None = None
        c_prev_prev, c_prev = stem_channels, stem_channels
        reduced_before = imagenet
        for layer in range(layers):
            reduction = layer in reduction_layers(layers)
            channels *= 2 if reduction else 1
            cell = genotype.cell(layer, layers)
            self.cells.append(CellModule(cell, c_prev_prev, c_prev, channels, reduction, reduced_before))
            c_prev_prev, c_prev, reduced_before = c_prev, len(cell.concat) * channels, reduction
            if spec.auxiliary and layer == 2 * layers // 3:
                self.auxiliary = AuxiliaryHead(c_prev, spec.classes, imagenet)
        self.classifier = nn.Linear(c_prev, spec.classes)
        self._auxiliary_layer = 2 * layers // 3

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        images = in_layout(images, self.contiguous_layout)
        before_last_activated = None if self.first_stem is None else self.first_stem(images)
        last = self.stem(images if before_last_activated is None else before_last_activated)
        auxiliary_logits = None
        for layer, (cell, activation) in enumerate(zip(self.cells, self.activations, strict=True)):
            activated = activation(last)
            if before_last_activated is None:
                before_last_activated = activated
            last = cell(before_last_activated, activated, self.drop_path_probability)
            before_last_activated = activated
            if self.training and self.auxiliary is not None and layer == self._auxiliary_layer:
                auxiliary_logits = self.auxiliary(last)
        logits: Tensor = self.classifier(last.mean(dim=(2, 3)))
        return logits if auxiliary_logits is None else (logits, auxiliary_logits)

    def feature_modules(self) -> list[nn.Module]:
        """The modules whose outputs are the features of each depth: the stem and the cells, in order."""
        return [self.stem, *self.cells]

    def pooled_module(self) -> nn.Module:
        """The module whose output is the input of the global pooling."""
        return self.cells[-1]
