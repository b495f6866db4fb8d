"""Pre-activation residual networks: a 3x3 convolution to C channels and three stages of blocks.

Basic blocks make a wide residual network (Zagoruyko and Komodakis, BMVC 2016, https://arxiv.org/abs/1605.07146). The
others, squeeze-and-excitation and smooth activations are those that Huang et al. study ("Revisiting Residual Networks
for Adversarial Robustness", CVPR 2023, https://arxiv.org/abs/2212.11005). Batch norm and activation come before each
convolution; the second and the third stage begin with stride 2.

Departures from the published program of Huang et al.: the first convolution of a bottleneck reads the activated input,
as in the paper, where the program passes the input itself; squeeze-and-excitation has the network's activation, where
the program has a ReLU; weights are drawn as torch draws them; images of any size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from search_spaces.base import NetworkSpec
from search_spaces.cells.blocks import BlockNetwork
from search_spaces.cells.operations import AveragePool, ConvNorm, PointwiseConv
from search_spaces.resnets.cost import middle, squeezed
from search_spaces.resnets.genotype import EXPANSION, STAGES, ResNetGenotype

MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus, "gelu": nn.GELU,
}  # fmt: skip


class GroupedConvNorm(ConvNorm):
    """A 3x3 convolution of several groups and its batch norm; at stride 1 it keeps the resolution."""

    def __init__(self, channels: int, stride: int, groups: int):
        super().__init__(channels, channels, 3, stride, 1)
        if groups > 1:
            self.conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=groups, bias=False)


class HierarchicalConv(nn.Module):
    """Res2Net's 3x3 convolutions (Gao et al., TPAMI 2021), each followed by batch norm and activation.

    The channels are split into ``scales`` parts. Each part but the last is convolved, after the output of the part
    before it is added; with a stride nothing is added. The last part is passed on, with a stride it is pooled.
    """

    def __init__(self, channels: int, scales: int, stride: int, groups: int, activation: Callable[[], nn.Module]):
        super().__init__()
        self.convs = nn.ModuleList(GroupedConvNorm(channels, stride, groups) for _ in range(scales - 1))
        self.activations = nn.ModuleList(activation() for _ in range(scales - 1))
        pool = AveragePool(stride)
        pool.count_include_pad = True  # as published
        self.pool: nn.Module = nn.Identity() if stride == 1 else pool
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        *parts, last = (x.narrow(1, start, self.channels) for start in range(0, x.shape[1], self.channels))
        outputs: list[Tensor] = []
        for part, conv, activation in zip(parts, self.convs, self.activations, strict=True):
            read = part + outputs[-1] if outputs and self.stride == 1 else part
            outputs.append(activation(conv(read)))
        return torch.cat([*outputs, self.pool(last)], dim=1)


class Excitation(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018): each channel times a weight from 0 to 1, from all their means."""

    def __init__(self, channels: int, activation: Callable[[], nn.Module]):
        super().__init__()
        self.squeeze = nn.Linear(channels, squeezed(channels), bias=False)
        self.activation = activation()
        self.excite = nn.Linear(squeezed(channels), channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.excite(self.activation(self.squeeze(x.mean(dim=(2, 3))))).sigmoid()
        return x * weights[:, :, None, None]


class ResidualBlock(nn.Module):
    """``(N, C, H, W)`` -> ``(N, C', ceil(H / stride), ceil(W / stride))``; see :attr:`out_channels`."""

    def __init__(self, genotype: ResNetGenotype, c_in: int, planes: int, stride: int):
        super().__init__()
        activation = MODULES[genotype.activation]
        self.out_channels = planes if genotype.block == "basic" else EXPANSION * planes
        self.stride = stride
        self.norm = nn.BatchNorm2d(c_in)
        self.activation = activation()
        if genotype.block == "basic":
            first, last = ConvNorm(c_in, planes, 3, stride, 1), nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
            self.branch = nn.Sequential(first, activation(), last)
        else:
            width, groups, scales = middle(genotype.block, planes)
            convs: list[nn.Module] = [HierarchicalConv(width, scales, stride, groups, activation)]
            if scales == 1:
                convs = [GroupedConvNorm(width, stride, groups), activation()]
            last = PointwiseConv(scales * width, self.out_channels)
            self.branch = nn.Sequential(ConvNorm(c_in, scales * width, 1), activation(), *convs, last)
        same = stride == 1 and c_in == self.out_channels
        self.shortcut = None if same else PointwiseConv(c_in, self.out_channels)
        self.excitation = None if genotype.squeeze == "none" else Excitation(self.out_channels, activation)
        self.excitation_norm = nn.BatchNorm2d(self.out_channels) if genotype.squeeze == "rse" else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(self.norm(x))
        out: Tensor = self.branch(activated)
        if self.excitation_norm is not None and self.excitation is not None:
            out = out + self.excitation(self.excitation_norm(out))
        elif self.excitation is not None:
            out = self.excitation(out)
        # pixels are selected first: torch's gradient of strided 1x1 convolutions has a fault, see FactorizedReduce
        return out + (x if self.shortcut is None else self.shortcut(activated[:, :, :: self.stride, :: self.stride]))


class ResNet(BlockNetwork):
    """``(N, image_channels, H, W)`` -> logits ``(N, classes)``."""

    def __init__(self, genotype: ResNetGenotype, spec: NetworkSpec):
        super().__init__()
        assert spec.channels is not None
        self.linear_between = genotype.squeeze == "none" and genotype.activation == "relu"
        channels = spec.channels
        self.stem = nn.Conv2d(spec.image_channels, channels, 3, 1, 1, bias=False)
        self.blocks = nn.ModuleList()
        for stage in range(STAGES):
            planes = spec.channels * 2**stage * genotype.widths[stage]
            for index in range(genotype.depths[stage]):
                block = ResidualBlock(genotype, channels, planes, 2 if stage > 0 and index == 0 else 1)
                self.blocks.append(block)
                channels = block.out_channels
        self.norm = nn.BatchNorm2d(channels)
        self.activation = MODULES[genotype.activation]()
        self.classifier = nn.Linear(channels, spec.classes)
