"""Models as users bring them: each is scored like the plain network that it stands for, or refused in one line."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import proxies
from nas.testing.networks import Twice, batch, normalised_network, not_copyable_network, plain_cnn
from proxies.base import Probe, ProxyError
from proxies.engine.models import copied, plain, unwrapped
from proxies.synflow import Synflow


def all_scores(model: nn.Module, images: Tensor | None = None) -> dict[str, float]:
    x, labels = batch()
    return proxies.score(model, x if images is None else images, labels)


def in_parts() -> nn.Module:
    """The features of the network in a wrapper, its classifier outside, as in older programs."""
    network = plain_cnn()
    return nn.Sequential(nn.DataParallel(network[:9]), *network[9:])


@pytest.mark.parametrize(
    "build",
    [lambda: nn.DataParallel(plain_cnn()), lambda: nn.DataParallel(nn.DataParallel(plain_cnn())), in_parts],
    ids=["around", "twice", "inside"],
)
def test_data_parallel_does_not_matter(build: Callable[[], nn.Module]) -> None:
    assert all_scores(build()) == pytest.approx(all_scores(plain_cnn()), rel=1e-9)


def test_a_compiled_model_is_scored_as_it_is_written() -> None:
    assert all_scores(torch.compile(plain_cnn())) == pytest.approx(all_scores(plain_cnn()), rel=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_scored_in_float32(dtype: torch.dtype) -> None:
    model = plain_cnn().to(dtype)
    assert all_scores(model, batch()[0].float()) == all_scores(copy.deepcopy(model).float(), batch()[0].float())
    assert {each.dtype for each in model.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_images_are_scored_in_the_precision_of_the_model(dtype: torch.dtype) -> None:
    images = batch()[0].to(dtype)
    assert all_scores(plain_cnn(), images) == all_scores(plain_cnn(), images.double())
    assert all_scores(plain_cnn().float(), images) == all_scores(plain_cnn().float(), images.float())


def test_of_two_precisions_that_of_the_images_is_kept() -> None:
    model = plain_cnn()
    model.register_parameter("unused", nn.Parameter(torch.zeros(1, dtype=torch.float32)))
    for dtype in (torch.float32, torch.float64):
        assert Probe(model, batch()[0].to(dtype), batch()[1]).images.dtype == dtype
    model.float().register_buffer("constant", torch.zeros(1, dtype=torch.float64))
    assert Probe(model, *batch()).images.dtype == torch.float32


def test_a_network_with_normalised_weights_has_every_score() -> None:
    assert tuple(all_scores(normalised_network())) == proxies.PROXIES


def test_the_weights_that_a_parametrization_computes_are_scored() -> None:
    """The example of a user: the layer's own tensors stay, and the computed weight is what ``l2_norm`` adds up."""
    layer = parametrizations.spectral_norm(nn.Conv2d(3, 8, 3))
    model = nn.Sequential(layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    before = copy.deepcopy(model.state_dict())
    labels = torch.arange(16) % 5
    scores = proxies.score(model, torch.rand(16, 3, 16, 16), labels, names=["zen", "snap", "l2_norm"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    assert scores["l2_norm"] == pytest.approx((layer.weight.norm() + model[4].weight.norm()).item())


def test_parameters_are_counted_in_the_model_itself() -> None:
    model = nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(192, 3))).double()
    assert proxies.score(model, *batch(), names=["params"]) == {"params": 192 * 3 + 3 + 3}


def test_plain_weights_keep_their_place_and_what_is_learned() -> None:
    made = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        parametrizations.orthogonal(nn.Linear(4, 4)).requires_grad_(False),
        prune.random_unstructured(nn.Linear(4, 3), "weight", amount=0.5),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        made.append(nn.utils.weight_norm(nn.Linear(3, 3)).requires_grad_(False))
    values = [layer.weight.detach().clone() for layer in made]
    network = plain(copied(made))
    names = [f"{i}.{name}" for i in range(4) for name in ("weight", "bias")]
    assert [name for name, _ in network.named_parameters()] == names
    assert [each.requires_grad for each in network.parameters()] == [True] * 2 + [False] * 2 + [True] * 2 + [False] * 2
    assert [type(layer) for layer in network.children()] == [nn.Conv2d, nn.Linear, nn.Linear, nn.Linear]
    for layer, value in zip(network, values, strict=True):  # type: ignore[arg-type]  # a Sequential
        assert torch.allclose(layer.weight, value, atol=1e-6)
    assert parametrize.is_parametrized(made[0], "weight") and made[0].weight.shape == (4, 3, 3, 3)


def test_a_buffer_that_a_parametrization_computes_remains_a_buffer() -> None:
    norm = nn.BatchNorm2d(4)
    parametrize.register_parametrization(norm, "running_mean", Twice())
    assert dict(plain(copied(norm)).named_buffers()).keys() == dict(nn.BatchNorm2d(4).named_buffers()).keys()


def test_what_cannot_be_copied_is_shared() -> None:
    model = not_copyable_network()
    made = copied(model)
    assert made.lock is model.lock
    assert [*made[2]._forward_hooks.values()] == [*model[2]._forward_hooks.values()]  # type: ignore[index]
    assert made[2]._forward_hooks is not model[2]._forward_hooks  # type: ignore[index]
    assert all(a is not b for a, b in zip(made.parameters(), model.parameters(), strict=True))


def test_a_model_that_cannot_be_copied_at_all() -> None:
    class Single(nn.Flatten):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("there can be\nonly one")

    model = nn.Sequential(Single(), nn.Linear(192, 3)).double()
    with pytest.raises(ProxyError, match=r"^the model cannot be copied \(there can be only one\); expected one"):
        proxies.score(model, *batch(), names=["snip"])


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against it
        return torch.jit.script(plain_cnn())  # type: ignore[no-any-return]


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(plain_cnn().eval(), batch()[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (scripted, "the model is TorchScript, .* expected the nn.Module that it was made from"),
        (traced, "the model is TorchScript"),
        (lambda: nn.Sequential(scripted()), "the module '0' is TorchScript"),
        (lambda: plain_cnn().to("meta"), "'0.weight' is on the device meta, without values; expected weights on cpu"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3, dtype=torch.complex64)),
            "'1.weight' is of torch.complex64; expected real floating-point weights",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
            "'1.weight' has no shape yet; expected a model that has been called once on images",
        ),
    ],
    ids=["scripted", "traced", "scripted inside", "meta", "complex", "lazy"],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_models_that_no_proxy_scores(build: Callable[[], nn.Module], said: str) -> None:
    model, (images, labels) = build(), batch()
    for name in proxies.PROXIES:
        with pytest.raises(ProxyError, match=said):
            proxies.score(model, images.float(), labels, names=[name])


def with_own_weight_hook() -> nn.Module:
    network = plain_cnn()
    network[0].register_parameter("kept", network[0]._parameters.pop("weight"))
    network[0].register_forward_pre_hook(lambda layer, inputs: setattr(layer, "weight", 2 * layer.kept))
    return network


def hooked_wrapper() -> nn.Module:
    wrapper = nn.DataParallel(plain_cnn())
    wrapper.register_forward_hook(lambda module, inputs, logits: logits.softmax(1))
    return wrapper


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (with_own_weight_hook, "the weight of '0' is set by a hook that is not known; expected a parameter"),
        (hooked_wrapper, "the DataParallel around the model has hooks of its own; expected them on the model inside"),
    ],
)
def test_models_of_which_only_the_parameters_are_counted(build: Callable[[], nn.Module], said: str) -> None:
    assert proxies.score(build(), *batch(), names=["params"]) == proxies.score(plain_cnn(), *batch(), names=["params"])
    for name in proxies.PROXIES:
        if name != "params":
            with pytest.raises(ProxyError, match=said):
                proxies.score(build(), *batch(), names=[name])


def test_a_function_may_build_a_wrapped_network() -> None:
    probe = Probe(lambda: nn.DataParallel(plain_cnn()), *batch())
    assert Synflow().score(probe) == Synflow().score(Probe(plain_cnn(), *batch()))
    assert unwrapped(probe.network) is probe.network
