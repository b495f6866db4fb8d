"""The conformance suite of search spaces."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.testing.expectations import during, expect, expect_equal, expect_error
from search_spaces.base import NetworkSpec, SearchSpace

SPECS = (
    NetworkSpec(channels=4, layers=3, classes=3, image_size=(8, 8)),
    NetworkSpec(channels=2, layers=4, classes=10, image_size=(9, 7), image_channels=1),
    NetworkSpec(channels=6, layers=1, classes=2, image_size=(5, 6)),
)
SMOOTH = (nn.SiLU, nn.GELU, nn.Softplus, nn.ELU, nn.Mish)
NO_GENOTYPES = ("", "no such genotype", "(", "{}", "[1]", "|", "\0")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The space to be checked, and the inputs of the checks.

    :param genotypes: sampled genotypes and given ones.
    :param path: the path of an operation that :meth:`~search_spaces.base.SearchSpace.count` counts.
    :param specs: sizes of networks that the space can build.
    """

    space: SearchSpace[Any]
    genotypes: tuple[Any, ...]
    path: str
    specs: tuple[NetworkSpec, ...]


def check_space(space: SearchSpace[Any], *, path: str, texts: Sequence[str] = (), stages: int = 1) -> None:
    """Run all checks of this module.

    :param path: an operation that the space counts, such as ``normal.skip_connect``.
    :param texts: further genotypes to be checked besides sampled ones, as
        :meth:`~search_spaces.base.SearchSpace.parse` reads them.
    :param stages: the number of layers of a network in this space must be a multiple of ``stages``.
    :raises AssertionError: the space breaks its contract (:class:`search_spaces.base.SearchSpace`); the message says
        how.
    """
    subject = subject_of(space, path=path, texts=texts, stages=stages)
    for check in CHECKS:
        with during(check, f"space '{space.name}'"):
            check(subject)


def subject_of(space: SearchSpace[Any], *, path: str, texts: Sequence[str] = (), stages: int = 1) -> Subject:
    """The subject of the checks, from the parameters of :func:`check_space`."""
    name = getattr(space, "name", None)
    expect(isinstance(name, str) and name != "", f"a space must have a name, a word, got {name!r:.60}")
    rng = np.random.default_rng(0)
    genotypes = *(space.sample(rng) for _ in range(3)), *map(space.parse, texts)
    specs = tuple(_fitting(spec, space, stages) for spec in SPECS)
    return Subject(space=space, genotypes=genotypes, path=path, specs=specs)


def _fitting(spec: NetworkSpec, space: SearchSpace[Any], stages: int) -> NetworkSpec:
    """``spec`` with channels and layers that are valid in the space."""
    channels, layers = spec.stack
    return replace(
        spec,
        channels=None if space.default_channels is None else channels,
        layers=None if space.default_layers is None else math.ceil(layers / stages) * stages,
    )


def check_seeds(subject: Subject) -> None:
    """Generators with equal seeds give equal genotypes; two different seeds give different genotypes."""
    space = subject.space
    a, b = space.sample(_rng(1)), space.sample(_rng(2))
    expect_equal(space.sample(_rng(1)), a, "the sample of an equal generator")
    expect(a != b, f"generators of seeds 1 and 2 both sample {a!r:.200}")
    expect_equal(space.mutate(a, _rng(3)), space.mutate(a, _rng(3)), "the mutant of an equal generator")
    expect_equal(space.crossover(a, b, _rng(3)), space.crossover(a, b, _rng(3)), "the child of an equal generator")


def check_samples_differ(subject: Subject) -> None:
    """More than 15 of 20 samples have different canonical keys."""
    rng = _rng()
    distinct = len({subject.space.canonical(subject.space.sample(rng)) for _ in range(20)})
    expect(distinct > 15, f"expected more than 15 functions among 20 samples, got {distinct}")


def check_genotypes_are_values(subject: Subject) -> None:
    """Genotypes can be pickled and hashed; an unpickled copy is equal and has the same hash."""
    for genotype in subject.genotypes:
        back = pickle.loads(pickle.dumps(genotype))
        expect_equal(back, genotype, "the genotype unpickled")
        expect_equal(hash(back), hash(genotype), "the hash of the genotype unpickled")


def check_text(subject: Subject) -> None:
    """``parse`` is the inverse of ``format``, for the genotypes, some of their neighbours, and their children."""
    space, rng = subject.space, _rng()
    neighbours = [each for genotype in subject.genotypes for each in islice(space.neighbours(genotype), 0, None, 7)]
    pairs = zip(subject.genotypes, reversed(subject.genotypes), strict=True)
    children = [space.crossover(a, b, rng) for a, b in pairs]
    for genotype in [*subject.genotypes, *neighbours, *children]:
        expect_equal(space.parse(space.format(genotype)), genotype, "the genotype read from its text")


def check_other_text(subject: Subject) -> None:
    """``parse`` raises a ValueError with a message for a text that is not a genotype."""
    for text in NO_GENOTYPES:
        with expect_error(ValueError, r"\w", f"parse({text!r})"):
            subject.space.parse(text)


def check_canonical(subject: Subject) -> None:
    """A canonical key is one line; the genotype read from it has the same key and cost."""
    space, spec = subject.space, subject.specs[0]
    for genotype in subject.genotypes:
        key = space.canonical(genotype)
        expect("\n" not in key, f"a canonical key must be one line, got {key!r}")
        expect_equal(space.canonical(space.parse(key)), key, "the key of the genotype read from a key")
        expect_equal(space.cost(space.parse(key), spec), space.cost(genotype, spec), "the cost of a key")


def check_neighbours(subject: Subject) -> None:
    """Neighbours are different from one another and from the genotype, and every mutant is one of them."""
    space, rng = subject.space, _rng()
    for genotype in subject.genotypes:
        neighbours = list(space.neighbours(genotype))
        expect_equal(len(set(neighbours)), len(neighbours), "different neighbours")
        expect(genotype not in neighbours, f"{genotype!r:.200} is among its own neighbours")
        keys = {space.canonical(neighbour) for neighbour in neighbours}
        for _ in range(20):
            mutant = space.mutate(genotype, rng)
            expect(mutant != genotype, f"a mutant equals the genotype {genotype!r:.200}")
            expect(space.canonical(mutant) in keys, f"the mutant {mutant!r:.200} is no neighbour of {genotype!r:.200}")


def check_crossover(subject: Subject) -> None:
    """The child of two equal genotypes is the same genotype."""
    for genotype in subject.genotypes:
        expect_equal(subject.space.crossover(genotype, genotype, _rng()), genotype, "the child of equal genotypes")


def check_counts(subject: Subject) -> None:
    """Counts of operations are not all equal; ``count`` raises a ValueError that names an unknown path."""
    counts = [subject.space.count(genotype, subject.path) for genotype in subject.genotypes]
    expect(min(counts) >= 0, f"counts of {subject.path} must be at least 0, got {counts}")
    expect(len(set(counts)) > 1, f"expected different counts of {subject.path} among the genotypes, got {counts}")
    with expect_error(ValueError, "'no such path'", "count(genotype, 'no such path')"):
        subject.space.count(subject.genotypes[0], "no such path")


def check_networks(subject: Subject) -> None:
    """Networks map images to finite logits."""
    for spec in subject.specs:
        images = torch.randn(2, spec.image_channels, *spec.image_size)
        for genotype in subject.genotypes:
            logits = subject.space.build(genotype, spec).eval()(images)
            expect_equal(tuple(logits.shape), (2, spec.classes), f"the shape of the logits with {spec}")
            expect(bool(logits.isfinite().all()), f"a logit is not finite, with {spec}")


def check_relus(subject: Subject) -> None:
    """A network calls each of its ``nn.ReLU`` modules, since some proxies observe them with hooks.

    It has some, unless it has modules of a smooth activation.
    """
    spec = subject.specs[0]
    for genotype in subject.genotypes:
        network = subject.space.build(genotype, spec)
        relus = {name: module for name, module in network.named_modules() if isinstance(module, nn.ReLU)}
        smooth = any(isinstance(module, SMOOTH) for module in network.modules())
        expect(bool(relus) or smooth, "the network has no nn.ReLU module")
        called: set[str] = set()
        for name, module in relus.items():
            module.register_forward_pre_hook(partial(_note, called, name))
        network(torch.rand(2, spec.image_channels, *spec.image_size))
        expect_equal(sorted(called), sorted(relus), "ReLU modules that are called")


def check_standard_network(subject: Subject) -> None:
    """The network with ``default_layers`` can be built, and has as many parameters as ``cost`` says."""
    space, genotype = subject.space, subject.genotypes[0]
    spec = NetworkSpec(channels=2, layers=space.default_layers)
    space.check_spec(spec)
    with torch.device("meta"):
        network = space.build(genotype, spec)
    expect_equal(space.cost(genotype, spec).params, _params(network), "parameters of the standard network")


def check_weights(subject: Subject) -> None:
    """Weights are drawn from torch's global generator; ``sample`` and ``cost`` do not draw from it."""
    space, genotype, spec = subject.space, subject.genotypes[0], subject.specs[0]
    with torch.random.fork_rng(devices=[]):
        weights = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            weights.append(torch.cat([value.flatten() for value in space.build(genotype, spec).parameters()]))
        expect(torch.equal(weights[0], weights[1]), "equal global seeds give different weights")
        expect(not torch.equal(weights[0], weights[2]), "different global seeds give equal weights")
        before = torch.random.get_rng_state()
        space.cost(space.sample(_rng()), replace(spec, channels=10, image_size=(11, 13)))
        expect(torch.equal(before, torch.random.get_rng_state()), "cost() has changed torch's global generator")


def check_cost(subject: Subject) -> None:
    """``cost`` gives the parameters and multiply-accumulates of the built network, in eval and in training mode."""
    for number, spec in enumerate(subject.specs):
        for genotype in subject.genotypes:
            cost = subject.space.cost(genotype, spec)
            for training in (False, True) if number == 0 else (False,):
                network = subject.space.build(genotype, spec).train(training)
                images = torch.zeros(2, spec.image_channels, *spec.image_size)
                with torch.no_grad(), FlopCounterMode(display=False) as counter:
                    network(images)
                expect_equal(cost.params, _params(network), f"parameters with {spec}")
                expect_equal(cost.macs, counter.get_total_flops() // 2 // len(images), f"macs with {spec}")


def check_published_sampler(subject: Subject) -> None:
    """``sample_published`` is a function of the seed, or raises a ValueError if there is no published sampler."""
    space = subject.space
    if type(space).sample_published is not SearchSpace.sample_published:
        expect_equal(space.sample_published(5), space.sample_published(5), "the published sample of an equal seed")
        return
    with expect_error(ValueError, "has no published sampler, expected the sampler 'uniform'", "sample_published(5)"):
        space.sample_published(5)


def check_encoding(subject: Subject) -> None:
    """``encode`` gives samples vectors of one length, equal for equal keys, or raises a ValueError."""
    space, rng = subject.space, _rng()
    samples = [space.sample(rng) for _ in range(20)]
    if type(space).encode is SearchSpace.encode:
        with expect_error(ValueError, "has no encoding", "encode"):
            space.encode(samples[0])
        return
    shape = space.encode(samples[0]).shape
    expect(len(shape) == 1 and shape[0] > 0, f"an encoding must be a vector, got shape {shape}")
    for sample in samples:
        vector, other = space.encode(sample), space.encode(space.parse(space.canonical(sample)))
        expect_equal(vector.shape, shape, "the shape of an encoding")
        expect(bool((vector == other).all()), f"{sample!r:.200} and its canonical key must have equal encodings")
    expect(len({space.encode(sample).tobytes() for sample in samples}) > 15, "encodings of 20 samples must differ")


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_seeds,
    check_samples_differ,
    check_genotypes_are_values,
    check_text,
    check_other_text,
    check_canonical,
    check_neighbours,
    check_crossover,
    check_counts,
    check_networks,
    check_relus,
    check_standard_network,
    check_weights,
    check_cost,
    check_published_sampler,
    check_encoding,
)


def _rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def _params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _note(called: set[str], name: str, module: nn.Module, inputs: Any) -> None:
    called.add(name)
