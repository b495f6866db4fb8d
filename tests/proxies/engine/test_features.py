"""Where the blocks of a network are found, and what is drawn in place of its weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proxies.base import Probe, ProxyError
from proxies.engine.drawn_weights import drawn_parameters, kaiming, standard
from proxies.engine.features import (
    Block,
    blocks,
    features_of_layers,
    named_blocks,
    outputs_of,
    pooled_module,
)
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from tests.proxies.networks import CLASSES, SIZE, darts_network, plain_cnn, smooth_mlp


def convolution(c_in: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(c_in, 3, 3, padding=1), nn.ReLU())


class Residual(nn.Module):
    """Written like the well-known residual networks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu, self.pool = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)
        self.layer1, self.layer2 = convolution(), convolution()
        self.avgpool, self.dropout, self.fc = nn.AdaptiveAvgPool2d(1), nn.Dropout(), nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.conv(x))))
        return self.fc(self.dropout(self.avgpool(self.layer2(x + self.layer1(x))).flatten(1)))


def test_blocks_of_a_residual_network() -> None:
    network = Residual()
    assert blocks(network) == [
        Block(network.conv, network.pool), Block(network.layer1, network.layer1), Block(network.layer2, network.layer2)
    ]  # fmt: skip
    assert pooled_module(network) is network.layer2
    assert blocks(nn.ModuleList([network])) == blocks(network)


def test_blocks_of_plain_networks() -> None:
    cnn, mlp = plain_cnn(), smooth_mlp()
    assert isinstance(cnn, nn.Sequential) and isinstance(mlp, nn.Sequential)
    assert blocks(cnn) == [Block(cnn[0], cnn[3]), Block(cnn[4], cnn[7])] and pooled_module(cnn) is cnn[7]
    assert blocks(mlp) == [Block(mlp[1], mlp[2])] and pooled_module(mlp) is mlp[2]


def test_a_single_block_is_taken_apart() -> None:
    features = nn.Sequential(convolution(), nn.MaxPool2d(2), convolution())
    network = nn.Sequential(
        features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    )
    assert blocks(network) == [Block(features[0], features[1]), Block(features[2], features[2])]
    assert pooled_module(network) is features[2]


def test_without_layers_there_are_no_blocks(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ProxyError, match="the network has no convolution or linear layer"):
        blocks(nn.Flatten())


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_the_networks_of_this_project_say_where_their_features_are(space: str, images: Tensor) -> None:
    found = get_space(space)
    spec = NetworkSpec(channels=4, layers=3, classes=CLASSES, image_size=SIZE)
    network = found.build(found.sample(np.random.default_rng(0)), spec).double().eval()
    ends = [block.end for block in blocks(network)]
    assert ends[0] is network.stem and len(ends) == 1 + len(network.cells if space == "darts" else network.blocks)
    with outputs_of(ends) as features, outputs_of([pooled_module(network)]) as pooled:
        logits = network(images)
    assert len(features) == len(ends)
    torch.testing.assert_close(network.classifier(pooled[0].mean(dim=(2, 3))), logits)


def test_layers_outside_of_the_blocks_go_with_what_they_read(images: Tensor) -> None:
    network = darts_network().eval()
    with features_of_layers(network) as features, outputs_of(network.feature_modules()) as of_blocks:
        network(images)
    names = [name for name, each in network.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    assert {f"{name}.weight" for name in names} == set(features)
    assert features["stem.conv.weight"].equal(of_blocks[0])
    assert features["cells.1.preprocess1.conv.weight"].equal(of_blocks[2])
    torch.testing.assert_close(features["classifier.weight"], of_blocks[-1].mean(dim=(2, 3)))


def test_blocks_by_name(images: Tensor, labels: Tensor) -> None:
    network = Residual()
    assert named_blocks(network, ["pool", "layer2.0"]) == [
        Block(network.pool, network.pool), Block(network.layer2[0], network.layer2[0])
    ]  # fmt: skip
    with pytest.raises(ProxyError, match="the network has no module 'layer9'"):
        named_blocks(network, ["layer9"])


def test_features_are_tensors() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    pair = Pair()
    with outputs_of([pair]), pytest.raises(ProxyError, match="the features of a Pair are no tensor"):
        pair(torch.ones(1))


def test_drawn_weights_have_the_stated_spread_and_shared_ones_stay_shared() -> None:
    first, second = nn.Linear(1000, 1000), nn.Linear(1000, 1000)
    second.weight = first.weight
    network = nn.Sequential(first, nn.BatchNorm1d(1000), second)
    drawn = drawn_parameters(network, standard, torch.Generator().manual_seed(0))
    assert set(drawn) == {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"}
    assert drawn["0.weight"] is drawn["2.weight"]
    assert drawn["0.weight"].std().item() == pytest.approx(1, rel=0.01) and not drawn["0.bias"].any()
    assert drawn["1.weight"].eq(1).all() and not drawn["1.bias"].any()
    he = drawn_parameters(nn.Conv2d(8, 1000, 5), kaiming, torch.Generator().manual_seed(0))
    assert he["weight"].std().item() == pytest.approx((2 / 200) ** 0.5, rel=0.02)


def test_what_is_asked_for_once_is_made_once(images: Tensor, labels: Tensor) -> None:
    probe, made = Probe(plain_cnn(), images, labels), []
    assert [probe.once(key, lambda: made.append(0) or len(made)) for key in "aab"] == [1, 1, 2]  # type: ignore[func-returns-value]
    assert len(probe.first(None, 4)[0]) == 4 and len(probe.first(None, 40)[1]) == len(images)
    with pytest.raises(ValueError, match="the probe holds 10 images, got a request for 11"):
        probe.first(11, 4)
