from __future__ import annotations

import copy
import decimal
import math
from decimal import Decimal
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.literal import robust_score
from nas.testing.literal import literal_network
from nas.testing.networks import SMALL, edge_network
from proxies.base import Probe, ProxyError
from proxies.robust import Robust, log_robustness
from search_spaces import get_space
from tests.proxies.networks import (
    IMAGES,
    batch_kernel,
    darts_network,
    linear_batch,
    linear_network,
    literal,
    plain_cnn,
    probe_of,
    single_image_gradients,
    smooth_mlp,
    step_change,
    triple_sum,
)


def robust(**options: Any) -> Robust:
    return Robust(**{"ntk_images": IMAGES, "curvature_images": 4, **options})


@pytest.mark.parametrize(("function", "ntk"), [("logits", 1 / 4), ("loss", 1 / 4 / (1 + math.e) ** 2)])
def test_by_hand(linear_probe: Probe, function: str, ntk: float) -> None:
    """Both rows of the logits' summed gradient are x_1 + x_2 = (1, 1): 4 / (M N^2) = 1/4. Of the loss: q times that.

    z = (-1, 0): with h = 0.5 the margin goes from 1 to 0, 2 / (1 + e^margin) from 1 - tanh(1/2) to 1.
    """
    proxy = robust(ntk_images=2, curvature_images=2, t=3.0, h=0.5, function=function)
    terms = proxy.terms(linear_probe)
    assert terms.ntk == pytest.approx(ntk, rel=1e-12)
    assert terms.log_curvature == pytest.approx(math.log((math.tanh(0.5) / 0.5) ** 2), rel=1e-12)
    bound = -math.exp(3 * ntk) * (math.tanh(0.5) / 0.5) ** 2
    assert proxy.score(linear_probe) == pytest.approx(-math.log(-bound), rel=1e-12)


@pytest.mark.parametrize("function", ["logits", "loss"])
def test_ntk_is_the_sum_over_parameters_and_pairs_of_images(
    network: nn.Module, images: Tensor, labels: Tensor, function: str
) -> None:
    for n in (1, IMAGES - 2):
        gradients = single_image_gradients(network, images[:n], labels[:n], function)
        ntk = robust(ntk_images=n, function=function).terms(Probe(network, images, labels)).ntk
        assert ntk == pytest.approx(triple_sum(gradients), rel=1e-6)


def test_ntk_is_the_triple_sum_term_by_term() -> None:
    """Nothing but numbers in three loops, on a network small enough for it."""
    images, labels = torch.rand(4, 1, 1, 2, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    torch.manual_seed(7)
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    gradients = single_image_gradients(network, images, labels, "logits").tolist()
    n, m = len(gradients), len(gradients[0])
    total = 0.0
    for parameter in range(m):
        for i in range(n):
            for j in range(n):
                total += gradients[i][parameter] * gradients[j][parameter]
    ntk = Robust(ntk_images=4, curvature_images=1).terms(Probe(network, images, labels)).ntk
    assert ntk == pytest.approx(total / (m * n**2), rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"function": "loss"}, {"norm": "train"}], ids=str)
def test_more_images_than_a_chunk_give_the_same(
    monkeypatch: pytest.MonkeyPatch, network: nn.Module, options: dict[str, Any]
) -> None:
    whole = robust(**options).terms(probe_of(network))
    for size in (3, IMAGES - 1):
        monkeypatch.setattr("proxies.engine.passes.CPU_CHUNK", size)
        terms = robust(**options).terms(probe_of(network))
        assert terms.ntk == pytest.approx(whole.ntk, rel=1e-9)
        assert terms.log_curvature == pytest.approx(whole.log_curvature, rel=1e-9)


def test_of_a_cell_network_it_is_the_literal_formula(images: Tensor, labels: Tensor) -> None:
    for cell, t, h in (("ROBUST_ZCP", 100.0, 50.0), ("CROZE", 0.0, 1.0)):
        network = darts_network(cell)
        expected = robust_score(literal_network(network).eval(), images, images[:4], labels[:4], t=t, h=h)
        assert robust(t=t, h=h).score(Probe(network, images, labels)) == pytest.approx(expected, rel=1e-6)


def test_curvature_from_values_of_the_loss_alone(images: Tensor, labels: Tensor) -> None:
    """Input gradients by central differences, pixel by pixel."""
    images, labels = images[:3, :, :2, :2].contiguous(), labels[:3]
    torch.manual_seed(8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    width = 1e-4

    def loss(network: nn.Module, image: Tensor, label: Tensor) -> float:
        return F.cross_entropy(network(image[None]), label[None]).item()

    def differences(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        gradient = torch.zeros_like(images)
        for i, label in enumerate(labels):
            for pixel in range(images[i].numel()):
                step = torch.zeros(images[i].numel(), dtype=torch.float64)
                step[pixel] = width
                step = step.view_as(images[i])
                change = loss(network, images[i] + step, label) - loss(network, images[i] - step, label)
                gradient[i].view(-1)[pixel] = change / (2 * width)
        return gradient

    for h in (0.5, 5.0):
        change = step_change(network, images, labels, h, differences) / h
        terms = robust(ntk_images=3, curvature_images=3, h=h).terms(Probe(network, images, labels))
        assert math.exp(terms.log_curvature) == pytest.approx(change.square().sum().item() / 3, rel=1e-6)


def test_a_short_step_sees_the_hessian() -> None:
    """As h vanishes, (l(x + h z) - l(x)) / h becomes H z."""
    network, probe = smooth_mlp(), probe_of(smooth_mlp())
    images, labels = probe.images[:4].clone().requires_grad_(), probe.labels[:4]
    loss = F.cross_entropy(network(images), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
    z = F.normalize(gradient.detach().sign().flatten(1)).view_as(images)
    (product,) = torch.autograd.grad(gradient, images, z)
    terms = robust(h=1e-5).terms(probe)
    assert math.exp(terms.log_curvature) == pytest.approx(product.square().sum().item() / 4, rel=1e-4)


def test_t_multiplies_the_kernel_only(probe: Probe) -> None:
    terms = robust(t=0.0).terms(probe)
    assert robust(t=0.0).score(probe) == pytest.approx(-terms.log_curvature, rel=1e-12)
    for t in (1.0, 1e3, 1e6):
        assert robust(t=t).terms(probe) == terms
        assert robust(t=t).score(probe) == pytest.approx(-(t * terms.ntk + terms.log_curvature), rel=1e-12)


def test_h_changes_the_curvature_only(network: nn.Module, images: Tensor, labels: Tensor, probe: Probe) -> None:
    for h in (0.01, 1.0, 50.0):
        terms = robust(h=h).terms(probe)
        assert terms.ntk == robust().terms(probe).ntk
        change = step_change(literal(network), images[:4], labels[:4], h)
        assert math.exp(terms.log_curvature) == pytest.approx(change.square().sum().item() / 4 / h**2, rel=1e-6)


def test_order_is_that_of_the_bound_where_its_exponential_overflows() -> None:
    """Decimal numbers reach as far as the bound does."""
    networks = [plain_cnn(), smooth_mlp(), darts_network("ROBUST_ZCP"), darts_network("DARTS_V2")]
    probes = [probe_of(network) for network in networks]
    terms = [robust().terms(probe) for probe in probes]
    for t, overflows in ((1.0, False), (1e4, True), (1e8, True)):
        scores = [robust(t=t).score(probe) for probe in probes]
        with decimal.localcontext(decimal.Context(prec=40, Emax=10**15, Emin=-(10**15))):
            bounds = [-(Decimal(t) * Decimal(each.ntk) + Decimal(each.log_curvature)).exp() for each in terms]
        assert (float(min(bounds)) == -math.inf) == overflows
        assert all(math.isfinite(score) for score in scores)
        order = range(len(networks))
        assert sorted(order, key=scores.__getitem__) == sorted(order, key=bounds.__getitem__)
        assert len(set(scores)) == len(scores)


def test_batch_statistics(images: Tensor, labels: Tensor) -> None:
    network = plain_cnn()
    before = copy.deepcopy(network.state_dict())
    for function in ("logits", "loss"):
        terms = robust(norm="train", function=function).terms(Probe(network, images, labels))
        assert terms.ntk == pytest.approx(batch_kernel(network, images, labels, function), rel=1e-6)
        change = step_change(literal(network, "train"), images[:4], labels[:4], 50.0) / 50.0
        assert math.exp(terms.log_curvature) == pytest.approx(change.square().sum().item() / 4, rel=1e-6)
        running = robust(function=function).terms(Probe(network, images, labels))
        assert running.ntk != pytest.approx(terms.ntk, rel=1e-3)
        assert running.log_curvature != pytest.approx(terms.log_curvature, rel=1e-3)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("cell", ["ROBUST_ZCP", "DARTS_V2"])
@pytest.mark.parametrize("function", ["logits", "loss"])
def test_float32_agrees_with_float64(images: Tensor, labels: Tensor, cell: str, function: str) -> None:
    network = darts_network(cell).float()  # both see the numbers that float32 holds
    images = images.float()
    terms = robust(function=function).terms(Probe(network, images, labels))
    expected = robust(function=function).terms(Probe(copy.deepcopy(network).double(), images.double(), labels))
    assert terms.ntk == pytest.approx(expected.ntk, rel=1e-3)
    assert math.exp(terms.log_curvature) == pytest.approx(math.exp(expected.log_curvature), rel=1e-3)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("ntk_images", 0, "ntk_images must be at least 1, got 0"),
        ("curvature_images", -1, "curvature_images must be at least 1, got -1"),
        ("t", -1.0, "t must be a number of at least 0, got -1.0"),
        ("t", math.nan, "t must be a number of at least 0, got nan"),
        ("t", math.inf, "t must be a number of at least 0, got inf"),
        ("h", 0.0, "h must be a number above 0, got 0.0"),
        ("h", math.nan, "h must be a number above 0, got nan"),
        ("function", "logit", "function must be logits or loss, got 'logit'"),
        ("norm", "batch", "norm must be eval or train, got 'batch'"),
    ],
)
def test_options_that_cannot_be(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Robust(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["ntk_images", "curvature_images"])
def test_more_images_than_there_are(probe: Probe, option: str) -> None:
    with pytest.raises(ValueError, match="the probe holds 10 images, got a request for 11") as error:
        robust(**{option: 11}).score(probe)
    assert error.type is ValueError  # the caller's mistake, not the network's


@pytest.mark.parametrize(
    ("weight", "label"),
    [([[0.0, 0.0], [0.0, 0.0]], 0), ([[2000.0, 0.0], [-2000.0, 0.0]], 1)],
    ids=["no gradient", "saturated: the same gradient everywhere"],
)
def test_without_curvature_there_is_no_value(weight: list[list[float]], label: int) -> None:
    network = linear_network()
    network[1].weight.data.copy_(torch.tensor(weight))  # type: ignore[index]
    probe = Probe(network, linear_batch()[0], torch.tensor([label, label]))
    with pytest.raises(ProxyError, match=r"the curvature is 0.0, expected a positive number"):
        robust(ntk_images=2, curvature_images=2).score(probe)


@pytest.mark.parametrize("options", [{}, {"function": "loss"}, {"norm": "train"}], ids=str)
def test_the_differentiable_score_is_the_score(images: Tensor, labels: Tensor, options: dict[str, Any]) -> None:
    for network in (darts_network(), edge_network()):
        before = copy.deepcopy(network.state_dict())
        expected = robust(**options).score(Probe(network, images, labels))
        with_graph = log_robustness(robust(**options), network, images, labels)
        assert with_graph.item() == pytest.approx(expected, rel=1e-9)
        with torch.no_grad():
            without = log_robustness(robust(**options), network, images, labels)
        assert without.item() == with_graph.item() and not without.requires_grad
        assert network.training
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, before[name]), name


class Mixed(nn.Module):
    """A supernet with given architecture weights, which are no parameters."""

    def __init__(self, space: str):
        super().__init__()
        torch.manual_seed(9)
        self.supernet = get_space(space).supernet(SMALL).double()  # type: ignore[attr-defined]
        for name, buffer in self.supernet.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.1, 0.5)
        self.supernet.architecture.requires_grad_(False)
        self.weights = {
            name: torch.randn_like(each).requires_grad_() for name, each in self.supernet.architecture.items()
        }

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.supernet(images, {name: each.softmax(-1) for name, each in self.weights.items()})
        return logits


@pytest.mark.parametrize(
    ("space", "norm"), [("darts", "eval"), ("nasbench201", "eval"), ("nasbench201", "train")]
)
def test_its_gradient_reaches_architecture_weights(images: Tensor, labels: Tensor, space: str, norm: str) -> None:
    """Against central differences, along a random direction."""
    network, proxy = Mixed(space), robust(ntk_images=3, curvature_images=2, t=10.0, norm=norm)
    leaves, width = list(network.weights.values()), 1e-6
    gradients = torch.autograd.grad(log_robustness(proxy, network, images, labels), leaves)
    directions = [torch.randn_like(leaf) for leaf in leaves]
    values = []
    with torch.no_grad():
        for distance in (width, -2 * width):
            for leaf, direction in zip(leaves, directions, strict=True):
                leaf += distance * direction
            values.append(log_robustness(proxy, network, images, labels).item())
    expected = sum((a * b).sum().item() for a, b in zip(gradients, directions, strict=True))
    assert (values[0] - values[1]) / (2 * width) == pytest.approx(expected, rel=1e-5)


def test_the_mean_counts_only_weights_that_require_a_gradient(images: Tensor, labels: Tensor) -> None:
    """With a frozen layer, as the proxy itself counts."""
    network = plain_cnn()
    network[0].requires_grad_(False)
    expected = robust(t=1e4).score(Probe(network, images, labels))
    assert log_robustness(robust(t=1e4), network, images, labels).item() == pytest.approx(expected, rel=1e-9)
    network.requires_grad_(True)
    assert robust(t=1e4).score(Probe(network, images, labels)) != pytest.approx(expected, rel=1e-3)


def test_it_takes_no_more_images_than_there_are(images: Tensor, labels: Tensor) -> None:
    network = plain_cnn()
    expected = Robust(ntk_images=2, curvature_images=2).score(Probe(network, images, labels))
    assert log_robustness(robust(), network, images[:2], labels[:2]).item() == pytest.approx(expected, rel=1e-9)


def test_it_has_no_value_without_curvature() -> None:
    network = linear_network()
    network[1].weight.data.zero_()  # type: ignore[index,union-attr]
    with pytest.raises(ProxyError, match="the curvature is 0.0, expected a positive number"):
        log_robustness(Robust(), network, *linear_batch())
