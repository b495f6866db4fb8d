"""Every search space passes the conformance suite. A new one is a row of ``CASES``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from nas.testing import spaces as suite
from search_spaces import SPACES, get_space
from search_spaces.base import NetworkSpec, SearchSpace


@dataclass(frozen=True, kw_only=True)
class Case:
    """A space, genotypes of it worth a look beside sampled ones, and what it can count."""

    space: str
    genotypes: tuple[str, ...] = ()
    path: str
    auxiliary: bool = False
    stages: int = 1  # networks have a multiple of so many layers


#: each kind of block, squeeze-and-excitation and activation of ``robust_resnet``, in small networks
KINDS = (
    "basic.se.silu.d1-w1.d2-w2.d1-w1", "bottleneck.none.relu.d1-w1.d1-w2.d1-w3",
    "aggregated.rse.gelu.d1-w2.d1-w1.d1-w1", "hierarchical.se.softplus.d1-w1.d1-w2.d1-w1",
    "robust.rse.relu.d1-w5.d2-w7.d1-w3",
)  # fmt: skip

CASES = [
    Case(space="darts", genotypes=("DARTS_V2", "CROZE", "NASNet", "LRNAS"), path="normal.skip_connect", auxiliary=True),
    Case(space="darts10", genotypes=("CROZE",), path="reduce.conv_7x1_1x7", auxiliary=True),
    Case(space="darts_imagenet", genotypes=("DARTS_V2",), path="normal.skip_connect", auxiliary=True),
    Case(space="darts10_imagenet", path="normal.sep_conv_7x7", auxiliary=True),
    Case(space="nasbench201", genotypes=("000000", "421211", "341023"), path="cell.nor_conv_3x3", stages=3),
    Case(space="wide_resnet", genotypes=("WRN-10-2", "d1-w1.d3-w20.d6-w2"), path="depth"),
    Case(space="robust_resnet", genotypes=KINDS, path="stage3.width"),
    Case(space="robnet", genotypes=("ROBNET_FREE", "ROBNET_LARGE"), path="cells.0.skip_connect", auxiliary=True),
]


@pytest.fixture(params=CASES, ids=lambda case: case.space)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def space(case: Case) -> SearchSpace[Any]:
    return get_space(case.space)


@pytest.fixture
def subject(case: Case, space: SearchSpace[Any]) -> suite.Subject:
    return suite.subject_of(space, path=case.path, texts=case.genotypes, stages=case.stages)


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda check: check.__name__)
def test_keeps_the_contract(subject: suite.Subject, check: Callable[[suite.Subject], None]) -> None:
    check(subject)


def test_every_space_is_in_the_table() -> None:
    assert {case.space for case in CASES} == set(SPACES)


def test_the_name_is_the_registered_one(case: Case, space: SearchSpace[Any]) -> None:
    assert space.name == case.space


@pytest.mark.parametrize("case", [case for case in CASES if case.auxiliary], ids=lambda case: case.space, indirect=True)
def test_cost_does_not_count_the_auxiliary_head(space: SearchSpace[Any]) -> None:
    genotype, spec = space.sample(np.random.default_rng(1)), NetworkSpec(auxiliary=True, image_size=(224, 224))
    with torch.device("meta"):
        network = space.build(genotype, spec)
    counted = [value.numel() for name, value in network.named_parameters() if not name.startswith("auxiliary.")]
    assert space.cost(genotype, spec).params == sum(counted)
    assert len(counted) < len(list(network.parameters()))


def test_an_unknown_space_lists_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown search space 'dart'; did you mean darts.* expected one of "):
        get_space("dart")


def test_parsing_needs_no_torch() -> None:
    program = (
        "import sys, search_spaces; space = search_spaces.get_space('darts'); space.canonical(space.parse('DARTS_V2'));"
        " sys.exit('torch' in sys.modules or 'networkx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"layers": -1}, "layers must be at least 1, got -1"),
        ({"image_size": (0, 4)}, "image size must be at least 1, got 0"),
    ],
)
def test_network_specs_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkSpec(**change)
