"""``Table``: the measured accuracies of a benchmark's cells."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nas.errors import UserError, unknown
from search_spaces.base import NetworkSpec

#: Decimals of an accuracy in percent that are kept. One image of 10,000 in one of three trainings is 0.0033; what the
#: published single-precision fractions carry below 0.00001 is rounding, which would part cells that tie.
DECIMALS = 4

#: First part of a metric's name -> classes, and height and width of the images in pixels.
_IMAGES = {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet": (120, 16), "ImageNet16-120": (120, 16)}


@dataclass(frozen=True)
class Entry:
    """One measured cell.

    ``id`` is the table's own, ``genotype`` the field's text, ``key`` the canonical key in the table's space, ``values``
    the accuracies in percent in the order of :attr:`Table.metrics`.
    """

    id: str
    genotype: str
    key: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A benchmark as far as its files are there.

    :param name: as in :data:`nas.tabular.TABLES`. :param title: as its authors call it.
    :param space: name of the search space.
    :param spec: the networks that were trained; :meth:`spec_for` has the classes and images of a metric's data set.
    :param metrics: names such as ``cifar10/autoattack``: data set, then what was measured; higher is better.
    :param entries: each measured cell once, in the order of their ids.
    :param whole: how many entries the published table has. :param kind: what an entry is, in the plural.
    :param training: how the networks were trained, in words. :param source: where the files are published.
    :param sampled: whether the entries are a few random cells of a space that is far larger.
    :param files: SHA-256 of what was read, by file name.
    :param aliases: ids of cells that were not trained, being isomorphic to one that was -> the id of that one.
    :param isomorphic: canonical keys of the cells in ``aliases`` -> the ids of the cells trained in their place.
    """

    name: str
    title: str
    space: str
    spec: NetworkSpec
    metrics: tuple[str, ...]
    entries: tuple[Entry, ...]
    whole: int
    kind: str
    training: str
    source: str
    files: Mapping[str, str]
    sampled: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    isomorphic: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.entries:
            raise UserError(f"the table {self.name} holds none of its {self.whole} {self.kind}")
        for entry in self.entries:
            if len(entry.values) != len(self.metrics):
                raise ValueError(f"entry {entry.id}: {len(entry.values)} values, expected {len(self.metrics)}")

    @property
    def description(self) -> str:
        """What the table is, how much of it is there, and how its networks were trained: one sentence."""
        return f"{self.title}: holds {len(self.entries)} of {self.whole} {self.kind}, {self.training}"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 over the files; equal on every machine."""
        lines = "".join(f"{self.files[name]}  {name}\n" for name in sorted(self.files))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    def column(self, metric: str) -> int:
        """The place of a metric in :attr:`Entry.values`.

        :raises UserError: unknown name; the message lists the nearest.
        """
        if metric not in self.metrics:
            raise unknown(f"metric of {self.name}", metric, self.metrics)
        return self.metrics.index(metric)

    def values(self, metric: str) -> np.ndarray:
        """``(entries,)``, percent."""
        column = self.column(metric)
        return np.array([entry.values[column] for entry in self.entries])

    def entry(self, id: str) -> Entry:
        """The entry of an id, also of a cell that is isomorphic to the one that was trained.

        :raises KeyError: the table holds no such cell.
        """
        return self._by_id[self.aliases.get(id, id)]

    def find(self, key: str) -> tuple[Entry, ...]:
        """The entries that say what a canonical key is worth; none where the table does not hold it.

        Those of its own cells; where none of them was trained, those of the cells that the benchmark takes for
        isomorphic. Several where the benchmark trained cells apart that the space knows to be the same network.
        """
        return self._by_key.get(key) or tuple(self._by_id[id] for id in self.isomorphic.get(key, ()))

    def measured(self, key: str, metric: str) -> float | None:
        """The accuracy of a canonical key in percent, the mean of what :meth:`find` has; None where it has nothing."""
        column, entries = self.column(metric), self.find(key)
        if len(entries) < 2:
            return entries[0].values[column] if entries else None
        return round(sum(entry.values[column] for entry in entries) / len(entries), DECIMALS)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The distinct canonical keys that :meth:`find` finds something for."""
        return tuple(dict.fromkeys((*self._by_key, *self.isomorphic)))

    def spec_for(self, metric: str) -> NetworkSpec:
        """The networks that were trained on the metric's data set."""
        self.column(metric)
        classes, size = _IMAGES[metric.split("/")[0]]
        return dataclasses.replace(self.spec, classes=classes, image_size=(size, size))

    @cached_property
    def _by_id(self) -> dict[str, Entry]:
        return {entry.id: entry for entry in self.entries}

    @cached_property
    def _by_key(self) -> dict[str, tuple[Entry, ...]]:
        groups: dict[str, tuple[Entry, ...]] = {}
        for entry in self.entries:
            groups[entry.key] = (*groups.get(entry.key, ()), entry)
        return groups
