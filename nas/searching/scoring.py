"""``Scorer`` computes the trial of a candidate. It can be pickled; its scores are the same in any process or thread."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from nas.errors import MachineFailed, OutOfMemory
from nas.executors.candidates import Candidate, candidate_seed
from nas.executors.failures import machine_failure
from nas.executors.stacks import score_stack
from nas.searching.fidelity import reduced, reduced_spec
from nas.searching.forward_pass import ForwardPass
from proxies.base import Probe, Proxy
from proxies.stack import ProbeStack
from search_spaces.base import NetworkSpec, SearchSpace
from searchers.base import Trial

if TYPE_CHECKING:
    from search_spaces.cells.stacked import StackedNetwork

G = TypeVar("G")

# Held while weights are drawn from torch's global generator, so that threads do not disturb each other.
_GLOBAL_GENERATOR = threading.Lock()


class Scorer(Generic[G]):
    """Scores candidates on one batch.

    A score depends on the canonical key, the fidelity, the run's seed, the batch and the options, and on nothing else:
    the network is built from the key itself, and its weights are drawn on the CPU with the seed :func:`candidate_seed`.
    :mod:`nas.searching.fidelity` defines what is smaller at a fidelity below 1.

    :param images: ``(N, C, H, W)`` in [0, 1]. :param labels: ``(N,)``.
    :param forward: what is measured of each candidate besides; a measured latency is no function of the above.
    :param stack: how many candidates to score together, as one network (:mod:`proxies.stack`), where the space can
        build it and nothing is measured. Scores then differ by rounding. If memory does not suffice, it is fewer.
    """

    def __init__(
        self,
        space: SearchSpace[G],
        spec: NetworkSpec,
        proxies: Sequence[Proxy],
        images: Tensor,
        labels: Tensor,
        *,
        seed: int,
        device: str = "cpu",
        forward: ForwardPass | None = None,
        stack: int = 1,
    ):
        self.stack = stack
        self.space = space
        self.spec = spec
        self.proxies = tuple(proxies)
        self.device = torch.device(device)
        self.images = images
        self.labels = labels
        self.seed = seed
        self.forward = forward or ForwardPass()

    @cached_property
    def _batch(self) -> tuple[Tensor, Tensor]:
        """The images and labels on the device, copied at first use: a scorer may be sent to another machine."""
        images = self.images.to(self.device).contiguous(memory_format=torch.channels_last)
        return images, self.labels.to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_batch"}

    @property
    def names(self) -> tuple[str, ...]:
        return (*(proxy.name for proxy in self.proxies), *self.forward.names)

    @property
    def parallel(self) -> bool:
        return self.device.type == "cpu" and not self.forward.latency  # which others would disturb

    def __call__(self, candidate: Candidate[G]) -> Trial[G]:
        """The finished trial. Its status is failed if the network raises or has no finite score, and infeasible if a
        measured quantity is above its limit.

        :raises MachineFailed: the machine lacked memory or something else, so that nothing is known of the candidate.
        """
        started = time.perf_counter()
        seed = candidate_seed(self.seed, candidate.key)
        with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode is
            result = self._result(candidate, seed)
        if isinstance(result, MachineFailed):  # raised here, where no frame keeps the network's memory
            raise result
        return self._trial(candidate, time.perf_counter() - started, result)

    def prepared(self, candidates: Sequence[Candidate[G]]) -> StackedNetwork | None:
        """The networks of several candidates as one, on the CPU; None if they must be scored one by one."""
        useless = self.forward.names or not any(proxy.stackable for proxy in self.proxies)
        if useless:
            return None
        try:
            genotypes = [self.space.parse(candidate.key) for candidate in candidates]
            for genotype in genotypes:
                self.space.cost(genotype, self.spec).check()
            network = self.space.stack(genotypes, self._effort(candidates[0].fidelity)[1])
        except Exception:  # found again, and reported, when the candidates are scored one by one
            return None
        if network is None:
            return None
        for k, candidate in enumerate(candidates):
            network.draw(k, candidate_seed(self.seed, candidate.key))
        return network.eval()

    def together(self, candidates: Sequence[Candidate[G]], prepared: StackedNetwork | None) -> list[Trial[G]]:
        """The finished trials of candidates of one fidelity, in order, from what :meth:`prepared` has made of them.

        If memory does not suffice, they are scored in two stacks. That depends on these candidates only, and not on
        what happened before, so that a resumed search does the same.

        :raises MachineFailed: as for a single candidate.
        """
        started = time.perf_counter()
        with torch.inference_mode(False), torch.enable_grad():
            results = None if prepared is None else self._results(candidates, prepared)
        del prepared
        if results is None:
            return [self(candidate) for candidate in candidates]
        if isinstance(results, OutOfMemory):
            self._forget()
            halves = candidates[: len(candidates) // 2], candidates[len(candidates) // 2 :]
            return [trial for half in halves for trial in score_stack(self, half)]
        if isinstance(results, MachineFailed):
            raise results
        seconds = (time.perf_counter() - started) / len(candidates)
        return [self._trial(each, seconds, result) for each, result in zip(candidates, results, strict=True)]

    def _results(
        self, candidates: Sequence[Candidate[G]], network: StackedNetwork
    ) -> list[dict[str, Any]] | MachineFailed | None:
        """For each candidate of a stack, the fields of the trial, or how the machine failed.

        None: something else failed, which is found again, and reported, when they are scored one by one.
        """
        proxies, spec, images = self._effort(candidates[0].fidelity)
        batch = [each[:images] for each in self._batch]
        genotypes = [self.space.parse(candidate.key) for candidate in candidates]
        counted = [dataclasses.asdict(self.space.cost(genotype, spec)) for genotype in genotypes]
        builders = [
            partial(self._build, genotype, candidate_seed(self.seed, candidate.key), spec)
            for genotype, candidate in zip(genotypes, candidates, strict=True)
        ]
        results: list[dict[str, Any]] = []
        try:
            stack = ProbeStack(network.pack(self.device), builders, batch[0], batch[1], counted)
            stack.plan(proxy for proxy in proxies if proxy.stackable)
            for k, genotype in enumerate(genotypes):
                own = Probe(builders[k], batch[0], batch[1], counted=counted[k])
                own.plan(proxy for proxy in proxies if not proxy.stackable)
                cost = self.space.cost(genotype, self.spec)
                probes = [stack.probes[k] if proxy.stackable else own for proxy in proxies]
                scored = _scored(proxies, probes)
                if isinstance(scored, MachineFailed):
                    return scored
                results.append({"params": cost.params, "macs": cost.macs, **scored})
        except Exception as error:
            return machine_failure(error)
        return results

    def _trial(self, candidate: Candidate[G], seconds: float, result: dict[str, Any]) -> Trial[G]:
        return Trial(
            id=candidate.id,
            key=candidate.key,
            genotype=candidate.genotype,
            seed=candidate_seed(self.seed, candidate.key),
            seconds=seconds,
            fidelity=candidate.fidelity,
            **result,
        )

    def _forget(self) -> None:
        """Give memory that is no longer used back to an accelerator."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _result(self, candidate: Candidate[G], seed: int) -> dict[str, Any] | MachineFailed:
        """The fields of the trial that scoring finds, or how the machine failed."""
        result: dict[str, Any] = {}
        try:
            representative = self.space.parse(candidate.key)
            cost = self.space.cost(representative, self.spec)
            result = {"params": cost.params, "macs": cost.macs}
            cost.check()
            proxies, spec, images = self._effort(candidate.fidelity)
            probe = Probe(
                lambda: self._build(representative, seed, spec),
                *(each[:images] for each in self._batch),
                counted=dataclasses.asdict(self.space.cost(representative, spec)),
            )
            measured = self.forward.measure(probe.network, probe.images) if self.forward.names else {}
            if candidate.fidelity == 1 and (violation := self.forward.violation(measured)):
                return {**result, **violation}
            probe.plan(proxies)
            scored = _scored(proxies, [probe] * len(proxies))
            if not isinstance(scored, MachineFailed) and scored["status"] == "ok":
                return {**result, **scored, "scores": {**scored["scores"], **measured}}
        except Exception as error:  # a failed candidate must not end the search; the trial keeps the reason
            scored = _failed(error)
        self._forget()
        return scored if isinstance(scored, MachineFailed) else {**result, **scored}

    def _effort(self, fidelity: float) -> tuple[tuple[Proxy, ...], NetworkSpec, int]:
        """The proxies, the size of the network and the number of images at a fidelity."""
        if fidelity == 1:
            return self.proxies, self.spec, len(self.images)
        fewer = partial(reduced, fidelity=fidelity)
        proxies = tuple(proxy.with_fewer_images(fewer) for proxy in self.proxies)
        images = max([fewer(len(self.images)), *(proxy.images_needed() for proxy in proxies)])
        return proxies, reduced_spec(self.spec, self.space, fidelity), images

    def _build(self, genotype: G, seed: int, spec: NetworkSpec | None = None) -> nn.Module:
        with drawing(seed):
            network = self.space.build(genotype, spec or self.spec)
        network.eval()  # once, instead of in every pass
        return network if self.device.type == "cpu" else network.to(self.device)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Inside, weights can be drawn from torch's global generator, seeded with ``seed``, by one thread at a time."""
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _scored(proxies: Sequence[Proxy], probes: Sequence[Probe]) -> dict[str, Any] | MachineFailed:
    """The status, and the scores or the error, of proxies that each have their probe of one network.

    How the machine failed is returned and not raised, since the traceback would keep the memory of the passes.
    """
    try:
        scores = {proxy.name: _finite_score(proxy, probe) for proxy, probe in zip(proxies, probes, strict=True)}
    except Exception as error:
        return _failed(error)
    return {"status": "ok", "scores": scores}


def _failed(error: Exception) -> dict[str, Any] | MachineFailed:
    """The status and the reason, or how the machine failed."""
    failure = machine_failure(error)
    return failure or {"status": "failed", "error": f"{type(error).__name__}: {_one_line(error)}"}


def _finite_score(proxy: Proxy, probe: Probe) -> float:
    score = float(proxy.score(probe))
    if not math.isfinite(score):
        raise ArithmeticError(f"{proxy.name} is {score}, expected a finite number")
    return score


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
