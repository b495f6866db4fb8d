"""What every search space must do. A new space is one row of ``CASES``."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

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


CASES = [
    Case(space="darts", genotypes=("DARTS_V2", "CROZE", "NASNet", "LRNAS"), path="normal.skip_connect", auxiliary=True),
    Case(space="nasbench201", genotypes=("000000", "421211", "341023"), path="cell.nor_conv_3x3", stages=3),
]
SPECS = [
    NetworkSpec(channels=4, layers=3, classes=3, image_size=(8, 8)),
    NetworkSpec(channels=2, layers=4, classes=10, image_size=(9, 7), image_channels=1),
    NetworkSpec(channels=6, layers=1, classes=2, image_size=(5, 6)),
]


@pytest.fixture(params=CASES, ids=lambda case: case.space)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def space(case: Case) -> SearchSpace[Any]:
    return get_space(case.space)


@pytest.fixture
def genotypes(case: Case, space: SearchSpace[Any]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [space.sample(rng) for _ in range(3)] + [space.parse(text) for text in case.genotypes]


@pytest.fixture(params=SPECS, ids=lambda spec: f"{spec.layers} layers")
def spec(request: pytest.FixtureRequest, case: Case) -> NetworkSpec:
    """A size, its layers rounded up to what the space can build."""
    size: NetworkSpec = request.param
    return replace(size, layers=-(-size.layers // case.stages) * case.stages)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_space_is_in_the_table() -> None:
    assert {case.space for case in CASES} == set(SPACES)


def test_the_name_is_the_registered_one(case: Case, space: SearchSpace[Any]) -> None:
    assert space.name == case.space


def test_equal_generators_give_equal_genotypes(space: SearchSpace[Any]) -> None:
    a, b = space.sample(rng(1)), space.sample(rng(2))
    assert a == space.sample(rng(1))
    assert a != b
    assert space.mutate(a, rng(3)) == space.mutate(a, rng(3))
    assert space.crossover(a, b, rng(3)) == space.crossover(a, b, rng(3))


def test_samples_differ(space: SearchSpace[Any]) -> None:
    generator = rng()
    assert len({space.canonical(space.sample(generator)) for _ in range(20)}) > 15


def test_genotypes_are_values(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    for genotype in genotypes:
        back = pickle.loads(pickle.dumps(genotype))
        assert back == genotype
        assert hash(back) == hash(genotype)


def test_text_comes_back(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    for genotype in genotypes:
        assert space.parse(space.format(genotype)) == genotype


def test_canonical_keys_are_read_as_one_of_their_genotypes(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    for genotype in genotypes:
        key = space.canonical(genotype)
        assert "\n" not in key
        assert space.canonical(space.parse(key)) == key
        assert space.cost(space.parse(key), SPECS[0]) == space.cost(genotype, SPECS[0])


@pytest.mark.parametrize("text", ["", "no such genotype", "(", "{}", "[1]", "|", "\0"])
def test_other_text_is_a_value_error(space: SearchSpace[Any], text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        space.parse(text)


def test_mutants_are_neighbours(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    generator = rng()
    for genotype in genotypes:
        neighbours = list(space.neighbours(genotype))
        assert len(set(neighbours)) == len(neighbours)
        assert genotype not in neighbours
        keys = {space.canonical(neighbour) for neighbour in neighbours}
        for _ in range(20):
            mutant = space.mutate(genotype, generator)
            assert mutant != genotype
            assert space.canonical(mutant) in keys


def test_neighbours_come_back_as_text(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    for genotype in genotypes:
        for neighbour in islice(space.neighbours(genotype), 0, None, 7):
            assert space.parse(space.format(neighbour)) == neighbour


def test_crossover_of_equals_is_the_same(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    generator = rng()
    for genotype in genotypes:
        assert space.crossover(genotype, genotype, generator) == genotype


def test_children_come_back_as_text(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    generator = rng()
    for a, b in zip(genotypes, reversed(genotypes), strict=True):
        child = space.crossover(a, b, generator)
        assert space.parse(space.format(child)) == child


def test_counts(case: Case, space: SearchSpace[Any], genotypes: list[Any]) -> None:
    counts = [space.count(genotype, case.path) for genotype in genotypes]
    assert min(counts) >= 0
    assert len(set(counts)) > 1
    with pytest.raises(ValueError, match="'no such path'"):
        space.count(genotypes[0], "no such path")


def test_networks_map_images_to_logits(space: SearchSpace[Any], genotypes: list[Any], spec: NetworkSpec) -> None:
    images = torch.randn(2, spec.image_channels, *spec.image_size)
    for genotype in genotypes:
        network = space.build(genotype, spec).eval()
        logits = network(images)
        assert logits.shape == (2, spec.classes)
        assert logits.isfinite().all()


def _note(called: set[nn.Module], module: nn.Module, inputs: Any) -> None:
    called.add(module)


def test_every_relu_of_a_network_is_called(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    """Who looks at the ReLUs that a network holds must not wait for one that never comes."""
    spec = NetworkSpec(channels=4, layers=3, classes=3, image_size=(8, 8))
    for genotype in genotypes:
        network = space.build(genotype, spec)
        called: set[nn.Module] = set()
        relus = {module for module in network.modules() if isinstance(module, nn.ReLU)}
        for module in relus:
            module.register_forward_pre_hook(partial(_note, called))
        network(torch.rand(2, 3, 8, 8))
        assert called == relus != set()


def test_the_standard_network_can_be_built(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    spec = NetworkSpec(channels=2, layers=space.default_layers)
    space.check_spec(spec)
    with torch.device("meta"):
        network = space.build(genotypes[0], spec)
    assert space.cost(genotypes[0], spec).params == sum(parameter.numel() for parameter in network.parameters())


def test_weights_come_from_the_global_generator(space: SearchSpace[Any], genotypes: list[Any]) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([value.flatten() for value in space.build(genotypes[0], SPECS[0]).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_cost_is_that_of_the_built_network(
    space: SearchSpace[Any], genotypes: list[Any], spec: NetworkSpec, training: bool
) -> None:
    for genotype in genotypes:
        with torch.device("meta"):
            network = space.build(genotype, spec).train(training)
            images = torch.empty(2, spec.image_channels, *spec.image_size)
        with FlopCounterMode(display=False) as counter:
            network(images)
        cost = space.cost(genotype, spec)
        assert cost.params == sum(parameter.numel() for parameter in network.parameters())
        assert cost.macs == counter.get_total_flops() // 2 // len(images)


def test_cost_leaves_the_global_generator_alone(space: SearchSpace[Any]) -> None:
    before = torch.random.get_rng_state()
    space.cost(space.sample(rng()), NetworkSpec(channels=10, layers=3, image_size=(11, 13)))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("case", [case for case in CASES if case.auxiliary], ids=lambda case: case.space, indirect=True)
def test_cost_does_not_count_the_auxiliary_head(space: SearchSpace[Any]) -> None:
    genotype = space.sample(rng())
    with torch.device("meta"):
        network = space.build(genotype, NetworkSpec(auxiliary=True))
    counted = [value.numel() for name, value in network.named_parameters() if not name.startswith("auxiliary.")]
    assert space.cost(genotype, NetworkSpec(auxiliary=True)).params == sum(counted)
    assert len(counted) < len(list(network.parameters()))


def test_the_published_sampler_is_a_function_of_the_seed_or_says_no(space: SearchSpace[Any]) -> None:
    if type(space).sample_published is SearchSpace.sample_published:
        with pytest.raises(ValueError, match="has no published sampler, expected the sampler 'uniform'"):
            space.sample_published(5)
    else:
        assert space.sample_published(5) == space.sample_published(5)


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
        ({"image_size": (0, 4)}, "images must be at least 1x1 pixels, got 0x4"),
    ],
)
def test_network_specs_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkSpec(**change)
