"""Every proxy on networks of the spaces whose networks those of the conformance suite do not show."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import proxies
from nas.testing.literal import literal_network
from nas.testing.networks import randomised
from proxies import MODULES
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from search_spaces.cells.network import CellNetwork

#: With the statistics of the batch the sum of the logits is constant where no pool reads a norm's output, as in RobNet.
NAMES = [name if name != "jacob_cov" else "jacob_cov(norm=eval)" for name in MODULES]


@pytest.mark.parametrize("name", ["robnet", pytest.param("darts10", marks=pytest.mark.slow), "darts_imagenet"])
def test_every_proxy_has_a_score_and_the_same_of_the_network_as_published(name: str) -> None:
    size = 96 if name == "darts_imagenet" else 8
    space, spec = get_space(name), NetworkSpec(channels=4, layers=2, classes=3, image_size=(size, size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = space.build(space.sample(np.random.default_rng(1)), spec)
        assert isinstance(network, CellNetwork)
        randomised(network)
        images, labels = torch.rand(10, 3, size, size, dtype=torch.float64), torch.arange(10) % 3
    found = proxies.score(network, images, labels, NAMES)
    assert len(found) == len(MODULES) and all(map(math.isfinite, found.values()))
    assert proxies.score(literal_network(network), images, labels, NAMES) == pytest.approx(found, rel=1e-6)
