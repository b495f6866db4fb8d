from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from proxies.base import Probe
from tests.proxies.networks import NETWORKS, batch, linear_batch, linear_network


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """On networks this small, threads do little but wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return NETWORKS[request.param]()


@pytest.fixture
def images() -> Tensor:
    return batch()[0]


@pytest.fixture
def labels() -> Tensor:
    return batch()[1]


@pytest.fixture
def probe(network: nn.Module, images: Tensor, labels: Tensor) -> Probe:
    return Probe(network, images, labels)


@pytest.fixture
def linear_probe() -> Probe:
    """What the values worked out by hand belong to."""
    return Probe(linear_network(), *linear_batch())
