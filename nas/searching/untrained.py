"""The scores of untrained networks: the proxies, and the images that they are computed on."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Collection, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from nas.cli.bounds import flag
from nas.device import torch_device, worker_device
from nas.errors import UserError, as_user_error, unknown
from nas.executors import EXECUTORS
from nas.executors.base import Executor
from nas.images.data import ImageData, fingerprint, load_data, probe_batch
from nas.searching.config import SearchConfig
from nas.searching.forward_pass import LATENCY, MEMORY, ForwardPass
from nas.searching.objectives import (
    COUNTED,
    MEASURED,
    components,
    direction_of,
    objectives_of,
    population_scores,
    weighed,
)
from nas.searching.score_source import ScoreSource
from nas.searching.scoring import Scorer
from proxies import POPULATION_PROXIES, PROXIES, get_proxy
from proxies.base import Proxy
from proxies.population import PopulationProxy
from proxies.robust import Robust, log_robustness
from proxies.spelling import base_name
from search_spaces.base import NetworkSpec, SearchSpace
from search_spaces.cells.stacked import bytes_per_image
from searchers.supernet import Material

#: Images in the batch, unless an option makes a proxy need more; no proxy needs more by default. A larger batch begins
#: with the same images.
PROBE_IMAGES = 50


class UntrainedNetworks(ScoreSource):
    """Scores each candidate's freshly initialised network with every proxy, on one batch of images of the data set."""

    def __init__(self, config: SearchConfig, space: SearchSpace[Any], given: dict[str, Proxy | PopulationProxy]):
        self.config = config
        self.space = space
        self.device = (
            worker_device(config.device, config.gpus_per_worker)
            if config.executor == "ray"
            else torch_device(config.device)
        )
        objectives = config.objective or ()
        check_objectives(objectives, given)
        self.asked = [
            given.get(name) or as_user_error(partial(_configured_proxy, name, config))
            for name in dict.fromkeys((*objectives, *config.proxy))
            if name not in MEASURED
        ]
        check_different(self.asked)
        self.forward = ForwardPass(
            batch=config.latency_batch or 1,
            latency=LATENCY in config.measured,
            memory=MEMORY in config.measured,
            max_latency_ms=config.max_latency_ms,
        )
        self.proxies = components(self.asked)
        self.names = (*(proxy.name for proxy in self.proxies), *self.forward.names)
        self.relative = population_scores(self.asked)
        self.directions = {name: direction_of(name, self.asked) for name in objectives}
        self.objectives = weighed(self.directions, self.relative) if objectives else objectives_of(self.asked)
        self.spec = as_user_error(lambda: checked_spec(space, config))
        if (config.stack or 1) > 1 and (reason := self._stackless()):
            raise UserError(f"--stack {config.stack} has no use with {reason}")

    def _stackless(self) -> str | None:
        """Why no candidates can be computed as one network; None if they can."""
        cells = [self.space.sample(np.random.default_rng(seed)) for seed in range(2)]
        if self.space.stack(cells, self.spec) is None:
            return f"the space {self.space.name}, whose networks are computed one by one"
        if not any(proxy.stackable for proxy in self.proxies):
            return "these proxies, which look at one network after the other"
        if self.forward.names:
            return f"{', '.join(self.forward.names)}, which is measured on one network alone"
        return None

    @cached_property
    def data(self) -> ImageData:
        """The data set, read on first use; :raises UserError: it cannot be read."""
        config = self.config
        return load_data(
            config.dataset, data_dir=config.data_dir, download=config.download, image_size=config.image_size
        )

    def prepare(self) -> None:
        config = self.config
        most, asked_by = max(
            (min(PROBE_IMAGES, len(self.data.train.labels)), "--dataset"),
            *((proxy.images_needed(), self._asking_for_images(proxy)) for proxy in self.proxies),
            key=lambda each: each[0],
        )
        try:
            self.images, self.labels = probe_batch(self.data.train, most, config.seed)
        except UserError as error:
            raise UserError(f"{asked_by}: {error}") from None
        self.spec = dataclasses.replace(
            self.spec,
            classes=len(self.data.classes),
            image_size=(self.images.shape[2], self.images.shape[3]),
            image_channels=self.images.shape[1],
        )

    def _asking_for_images(self, proxy: Proxy) -> str:
        """For an error message: the proxy that needs more images than the data set has, and the flag that says so."""
        needed = proxy.images_needed()
        flags = [flag(name) for name, value in proxy_options(type(proxy), self.config).items() if value == needed]
        return f"--proxy {proxy.name} needs {needed} images{f' ({flags[0]})' if flags else ''}"

    def scorer(self) -> Scorer[Any]:
        return Scorer(
            self.space, self.spec, self.proxies, self.images, self.labels, seed=self.config.seed, device=self.device,
            forward=self.forward, stack=self._stack(),
        )  # fmt: skip

    def _stack(self) -> int:
        if self.config.stack is not None:
            return self.config.stack
        if torch.device(self.device).type == "cpu" or self._stackless():
            return 1
        return automatic_stack(self.spec, len(self.labels), self.device)

    def material(self) -> Material:
        robust = as_user_error(partial(_configured_proxy, "robust", self.config))
        assert isinstance(robust, Robust)
        return Material(
            spec=self.spec,
            images=self.data.train.images,
            labels=self.data.train.labels,
            probe_images=self.images,
            probe_labels=self.labels,
            device=torch.device(self.device),
            budget=self.config.budget,
            log_robustness=partial(log_robustness, robust),
        )

    def executor(self) -> Executor:
        return EXECUTORS[self.config.executor](self.config, self.device)

    def facts(self) -> dict[str, Any]:
        images = self.data.train
        return {
            "proxies": [self._described(proxy) for proxy in self.asked],
            "data": {
                "name": self.data.name,
                "fingerprint": fingerprint(images),
                "classes": len(self.data.classes),
                "image_size": list(images.images.shape[2:]),
                "images": len(images.labels),
                "probe_images": len(self.labels),
            },
        }

    def _described(self, proxy: Proxy | PopulationProxy) -> dict[str, Any]:
        described: dict[str, Any] = {"name": proxy.name, "direction": proxy.direction}
        if isinstance(proxy, PopulationProxy):
            described["components"] = [{"name": part.name, "direction": part.direction} for part in proxy.components]
        return described

    @property
    def shown(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.directions, *(proxy.name for proxy in self.asked), *self.config.measured)))

    def identity(self, manifest: dict[str, Any]) -> dict[str, str]:
        return {"data set": manifest["data"]["fingerprint"], "device": manifest["hardware"]["device"]}


MOST_STACKED = 16  # with more, an operation is large enough
SHARE_OF_MEMORY = 0.7  # of a GPU, for a stack
UNKNOWN_MEMORY = 16 * 2**30  # of the GPUs of Ray's workers, where this machine has none


def automatic_stack(spec: NetworkSpec, images: int, device: str) -> int:
    """How many candidates to compute as one network: on a GPU as many as its memory holds, up to 16; on a CPU 1.

    :param images: in the batch.
    """
    if torch.device(device).type == "cpu" or spec.channels is None or spec.layers is None:
        return 1
    known = torch.cuda.is_available()
    memory = torch.cuda.get_device_properties(device).total_memory if known else UNKNOWN_MEMORY
    return max(1, min(MOST_STACKED, int(SHARE_OF_MEMORY * memory / (images * bytes_per_image(spec)))))


def checked_spec(space: SearchSpace[Any], config: SearchConfig) -> NetworkSpec:
    """The size of the networks, with the channels and layers of the configuration.

    :raises ValueError: the space has no networks of that size, or they are too large.
    """
    spec = NetworkSpec(channels=config.channels, layers=config.layers)
    space.check_spec(spec)
    space.cost(space.sample(np.random.default_rng(config.seed)), spec).check()
    return spec


def check_objectives(names: Sequence[str], given: Collection[str]) -> None:
    """:raises UserError: a name is neither a proxy, one of those ``given`` as objects among them, nor a measure."""
    known = dict.fromkeys((*MEASURED, *COUNTED, *PROXIES, *POPULATION_PROXIES, *given))
    for name in names:
        if name not in known and (base_name(name) not in known or name.startswith(MEASURED)):
            raise unknown("objective", name, known)


def check_different(proxies: Sequence[Proxy | PopulationProxy]) -> None:
    """:raises UserError: two names mean the same proxy, which would count twice in the combined rank."""
    for one, other in itertools.combinations(proxies, 2):
        alike = one.name != other.name and base_name(one.name) == base_name(other.name)
        if alike and _options(one) == _options(other):
            raise UserError(f"--proxy must name each proxy once, got {one.name} and {other.name}, which are the same")


def _options(proxy: Proxy | PopulationProxy) -> dict[str, Any]:
    return {name: value for name, value in vars(proxy).items() if name != "name"}


def _configured_proxy(name: str, config: SearchConfig) -> Proxy | PopulationProxy:
    return get_proxy(name, **proxy_options(type(get_proxy(name)), config))


def proxy_options(proxy: type[Proxy | PopulationProxy], config: SearchConfig) -> dict[str, Any]:
    """The values of those options of the configuration that a proxy of this class accepts."""
    accepted = inspect.signature(proxy).parameters
    return {option: getattr(config, option) for option in ("ntk_images", "curvature_images") if option in accepted}
