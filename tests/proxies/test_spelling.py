from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import proxies
from proxies.base import Probe
from proxies.spelling import canonical, parsed
from tests.proxies.networks import darts_network


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("synflow", "synflow", {}),
        ("grad_norm(images=64, norm=eval)", "grad_norm", {"images": 64, "norm": "eval"}),
        (" robust( t = 5e6 ,function='loss') ", "robust", {"t": 5e6, "function": "loss"}),
        ("fisher(fan_in=True)", "fisher", {"fan_in": True}),
        ("zen(step=-1)", "zen", {"step": -1}),
        ("snip(images=None)", "snip", {"images": None}),
        ("az_expressivity(modules=(stem, 'cells'))", "az_expressivity", {"modules": ("stem", "cells")}),
        ("az_expressivity(modules=('0', 'cells.1', a.b))", "az_expressivity", {"modules": ("0", "cells.1", "a.b")}),
    ],
)
def test_a_name_with_options(text: str, name: str, options: dict[str, Any]) -> None:
    assert parsed(text) == (name, options)


def test_one_spelling_for_what_is_the_same() -> None:
    texts = ["grad_norm( norm='eval',images = 64 )", "grad_norm(images=64, norm=eval)"]
    assert canonical(texts) == ("grad_norm(images=64, norm=eval)",) * 2
    others = ["zen(step=-0.5)", "fisher(fan_in=False)", "az_expressivity(modules=('a',))", "snip(images=None)"]
    others += [
        "az_expressivity(modules=('0', 'cells.1', a.b, 'None', 'if', 'a-b', '\ufb01'))",
        "az_expressivity(modules=())",
    ]
    for text in [*texts, *others]:
        (once,) = canonical([text])
        assert canonical([once]) == (once,) and parsed(once) == parsed(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("snip(", "the closing bracket is missing"),
        ("grad_norm(images=8,", "the closing bracket is missing"),
        ("snip()", "the brackets hold no option"),
        ("snip(64)", "'64' names no option"),
        ("snip(**x)", "'**x' names no option"),
        ("snip(images=)", "the options are no list of option=value"),
        ("a b(x=1)", "the options are no list of option=value"),
        ("snip(images={[]:1})", "images is {[]: 1}, expected a number, a word, True, False, None, or several"),
        ("snip(images=[1])", "images is [1], expected a number"),
        ("snip(images=f(1))", "images is f(1), expected a number"),
        ("snip(images=1j)", "images is 1j, expected a number"),
        ("snip(images=1)(2)", "it is no name with options in brackets"),
        ("snip(images=1) # few", "'# few' follows the bracket"),
        ("snip(images=1) # (few)", "it is no name with options in brackets"),
        ("snip(images=1, images=2)", "images stands there twice"),
        ("robust(t=1e400)", "t is 1e309, expected a finite number"),
        ("robust(function='a b')", "function is 'a b', expected a word"),
        ("snip(images='64')", "images is '64', expected a word; numbers, True, False and None stand without quot"),
        ("robust(norm='None')", "norm is 'None', expected a word"),
        ("az_expressivity(modules=('a b',))", "modules is ('a b',), expected a word"),
        ("az_expressivity(modules=(1.5.x,))", "modules is (1.5.x,), expected a number"),
        (
            "az_expressivity(modules=(cells.0,))",
            "the options are no list of option=value; a name such as 'cells.0' stands in quotation marks",
        ),
        ("az_expressivity(modules=('.a',))", "modules is ('.a',), expected a word"),
        ("az_expressivity(modules=(f().a,))", "modules is (f().a,), expected a number"),
        ("robust(norm=a.b)", "norm is a.b, expected a number"),
    ],
)
def test_what_is_no_such_form(text: str, wrong: str) -> None:
    with pytest.raises(ValueError) as caught:
        parsed(text)
    assert str(caught.value).startswith(f"cannot read the proxy '{text}': {wrong}")
    assert str(caught.value).endswith("; expected a form such as snip(images=64, norm=train)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("snipp(images=8)", "unknown proxy 'snipp'; did you mean snip"),
        ("snip(image=8)", "the proxy snip has no option 'image'; did you mean images\\? expected one of norm, images"),
        ("params(images=8)", "the proxy params has no option 'images'; it has none"),
        ("snip(images=0)", "the proxy snip: images must be at least 1, got 0"),
        ("zico(images=1)", "the proxy zico: images must be at least 2, got 1"),
        ("snip(norm=none)", "norm of the proxy snip must be eval or train, got none"),
        ("az_nas(images=4)", "takes no options in its name"),
        ("snip(images=word)", "images of the proxy snip must be a whole number or None, got word"),
        ("snip(images=8.5)", "images of the proxy snip must be a whole number or None, got 8.5"),
        ("snip(images=True)", "must be a whole number or None, got True"),
        ("fisher(fan_in=no)", "fan_in of the proxy fisher must be True or False, got no"),
        ("zico(absolute=1)", "absolute of the proxy zico must be True or False, got 1"),
        ("robust(t=long)", "t of the proxy robust must be a number, got long"),
        ("robust(function=5)", "function of the proxy robust must be logits or loss, got 5"),
        ("zen(seed=0.5)", "seed of the proxy zen must be a whole number, got 0.5"),
        ("az_expressivity(modules=stem)", "modules of the proxy .* must be words in brackets or None, got stem"),
    ],
)
def test_options_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        proxies.get_proxy(text)


def test_the_documented_options_are_those_of_the_classes() -> None:
    documented = {}
    for line in (Path(__file__).parents[2] / "docs" / "proxies.md").read_text().partition("## Options")[2].splitlines():
        if line.startswith("| `"):
            names, options = line.strip("| ").split(" | ")
            documented.update(dict.fromkeys(names.strip("`").split("`, `"), options.strip("`")))
    found = {}
    for name in proxies.PROXIES:
        parameters = inspect.signature(type(proxies.get_proxy(name))).parameters.values()
        if parameters:
            found[name] = ", ".join(f"{each.name}={each.default}" for each in parameters)
    assert documented == found
    for name, options in documented.items():  # None of them needs a quotation mark
        proxies.get_proxy(f"{name}({options})")


def test_two_of_a_kind_stand_side_by_side() -> None:
    """Each is known by its own text, shares the passes, and has the value that it has alone."""
    network = darts_network("ROBUST_ZCP").float()
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    names = ["grad_norm(images=4)", "grad_norm(images=6, norm=eval)", "grad_norm"]
    found = proxies.score(network, images, labels, names=names)
    assert list(found) == names
    assert len(set(found.values())) == 3
    alone = proxies.get_network_proxy("grad_norm", images=4)
    assert alone.name == "grad_norm"
    assert found["grad_norm(images=4)"] == pytest.approx(alone.score(Probe(network, images, labels)), rel=1e-5)


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("params", 0),
        ("l2_norm", 0),
        ("synflow", 1),
        ("zen(images=64)", 1),  # random images
        ("az_expressivity(images=64)", 1),  # likewise
        ("snip", 1),
        ("snip(images=64)", 64),
        ("grasp(images=3)", 3),
        ("naswot(images=None)", 1),
        ("jacob_cov", 2),
        ("zico", 2),
        ("zico(images=7)", 7),
        ("diverse_capacity", 2),
        ("snap(images=20)", 20),
        ("croze", 1),
        ("con_js(images=5)", 5),
        ("robust", 1),
        ("robust(curvature_images=4)", 4),
        ("robust_released(ntk_images=7, curvature_images=8)", 8),
    ],
)
def test_how_many_images_a_batch_must_hold(text: str, images: int) -> None:
    assert proxies.get_network_proxy(text).images_needed() == images


def test_what_the_name_says_comes_before_other_options() -> None:
    assert proxies.get_proxy("snip(images=3)", images=5).images == 3  # type: ignore[union-attr]
