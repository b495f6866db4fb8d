"""Hand-crafted networks in their CIFAR versions, with which searched ones are compared.

A 3x3 stem without pooling instead of ImageNet's 7x7 one. ``(N, C, H, W)`` -> logits ``(N, classes)``, any image size
from 8x8 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, or beside a 1x1 convolution where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = _conv3x3(c_in, c_out, stride), nn.BatchNorm2d(c_out)
        self.conv2, self.norm2 = _conv3x3(c_out, c_out), nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions (Zagoruyko and Komodakis, BMVC 2016)."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(c_in), _conv3x3(c_in, c_out, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(c_out), _conv3x3(c_out, c_out)
        same = stride == 1 and c_in == c_out
        self.shortcut = None if same else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(activated))))
        return out + (x if self.shortcut is None else self.shortcut(activated))


class DenseLayer(nn.Module):
    """1x1 then 3x3 convolution, each after batch norm and ReLU; the output is appended to the input's channels."""

    def __init__(self, c_in: int, growth: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(c_in), nn.Conv2d(c_in, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), _conv3x3(4 * growth, growth)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, new], dim=1)


class Pooled(nn.Module):
    """Features ``(N, channels, h, w)``, their mean over the pixels, a linear classifier.

    ``contiguous_layout``: compute in contiguous layout, not in channels_last.
    """

    contiguous_layout = False

    def __init__(self, features: nn.Module, channels: int, classes: int):
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "meta":
            x = x.contiguous(memory_format=torch.contiguous_format if self.contiguous_layout else torch.channels_last)
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits


def resnet18(classes: int = 10, image_channels: int = 3) -> nn.Module:
    """ResNet-18 (He et al., CVPR 2016), 11.2 M parameters."""
    blocks: list[nn.Module] = [_conv3x3(image_channels, 64), nn.BatchNorm2d(64), nn.ReLU()]
    c_in = 64
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [BasicBlock(c_in, channels, stride), BasicBlock(channels, channels, 1)]
        c_in = channels
    return Pooled(nn.Sequential(*blocks), 512, classes)


def densenet121(classes: int = 10, image_channels: int = 3) -> nn.Module:
    """DenseNet-121 (Huang et al., CVPR 2017) with growth 32, 7.0 M parameters."""
    growth, channels = 32, 64
    layers: list[nn.Module] = [_conv3x3(image_channels, channels)]
    for index, count in enumerate((6, 12, 24, 16)):
        if index:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False)]
            layers.append(nn.AvgPool2d(2))
            channels //= 2
        for _ in range(count):
            layers.append(DenseLayer(channels, growth))
            channels += growth
    return Pooled(nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU()), channels, classes)


def wrn_28_10(classes: int = 10, image_channels: int = 3) -> nn.Module:
    """Wide ResNet 28-10 without dropout (Zagoruyko and Komodakis, BMVC 2016), 36.5 M parameters."""
    blocks: list[nn.Module] = [_conv3x3(image_channels, 16)]
    c_in = 16
    for channels, stride in ((160, 1), (320, 2), (640, 2)):
        for index in range(4):
            blocks.append(PreActivationBlock(c_in, channels, stride if index == 0 else 1))
            c_in = channels
    return Pooled(nn.Sequential(*blocks, nn.BatchNorm2d(c_in), nn.ReLU()), c_in, classes)


#: name -> (classes, image channels) -> network
CLASSIC: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet18": resnet18,
    "densenet121": densenet121,
    "wrn_28_10": wrn_28_10,
}
