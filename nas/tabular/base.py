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

#: Decimals to which accuracies in percent are rounded. The smallest real difference is 0.0033: one of 10,000 images in
#: one of three trainings. The published single-precision fractions also have rounding errors below 0.00001, which would
#: make cells of equal accuracy differ.
DECIMALS = 4

#: From the first part of a metric's name to the number of classes, and the height and width of the images in pixels.
_IMAGES = {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet": (120, 16), "ImageNet16-120": (120, 16)}


@dataclass(frozen=True)
class Entry:
    """One measured cell.

    ``id`` is the table's own id of the cell, ``genotype`` its text in the notation of the search space, ``key`` its
    canonical key in that space, and ``values`` are accuracies in percent, in the order of :attr:`Table.metrics`.
    """

    id: str
    genotype: str
    key: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A tabular benchmark, or the part of it whose files are available.

    :param name: its key in :data:`nas.tabular.TABLES`. :param title: its name in the publication.
    :param space: name of the search space.
    :param spec: size of the trained networks; :meth:`spec_for` adds the classes and image size of a metric's data set.
    :param metrics: names such as ``cifar10/autoattack``: the data set, then the measure; higher is better.
    :param entries: each measured cell once, sorted by id.
    :param whole: number of entries in the complete published table. :param kind: plural noun for its entries.
    :param training: how the networks were trained, as a phrase. :param source: address where the files are published.
    :param sampled: whether the entries are only a small random sample of the space.
    :param files: SHA-256 of the files that were read, by file name.
    :param aliases: for a cell that was not trained because it is isomorphic to a trained one: from its id to the id of
        the trained cell.
    :param isomorphic: from the canonical keys of the cells in ``aliases`` to the ids of the cells trained instead.
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
        """One phrase: title, number of available entries, and how the networks were trained."""
        return f"{self.title}: holds {len(self.entries)} of {self.whole} {self.kind}, {self.training}"

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of a SHA-256 over the checksums of the files; equal on every machine."""
        lines = "".join(f"{self.files[name]}  {name}\n" for name in sorted(self.files))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    def column(self, metric: str) -> int:
        """The index of a metric in :attr:`Entry.values`.

        :raises UserError: unknown name; the message lists the most similar valid names first.
        """
        if metric not in self.metrics:
            raise unknown(f"metric of {self.name}", metric, self.metrics)
        return self.metrics.index(metric)

    def values(self, metric: str) -> np.ndarray:
        """The accuracies of all entries, ``(entries,)``, in percent."""
        column = self.column(metric)
        return np.array([entry.values[column] for entry in self.entries])

    def entry(self, id: str) -> Entry:
        """The entry of the cell with this id; for a cell in ``aliases``, that of the isomorphic cell that was trained.

        :raises KeyError: the table holds no such cell.
        """
        return self._by_id[self.aliases.get(id, id)]

    def find(self, key: str) -> tuple[Entry, ...]:
        """The entries whose accuracies are those of a canonical key; empty if the table has none.

        These are the entries of trained cells with that key or, if there are none, of the cells that the benchmark
        trained in their place as isomorphic. There are several if the benchmark trained cells separately that this
        project's search space recognises as the same network.
        """
        return self._by_key.get(key) or tuple(self._by_id[id] for id in self.isomorphic.get(key, ()))

    def measured(self, key: str, metric: str) -> float | None:
        """The accuracy of a canonical key in percent: the mean over the entries of :meth:`find`, None without entries.

        :raises UserError: unknown metric.
        """
        column, entries = self.column(metric), self.find(key)
        if len(entries) < 2:
            return entries[0].values[column] if entries else None
        return round(sum(entry.values[column] for entry in entries) / len(entries), DECIMALS)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The distinct canonical keys for which :meth:`find` has entries."""
        return tuple(dict.fromkeys((*self._by_key, *self.isomorphic)))

    def spec_for(self, metric: str) -> NetworkSpec:
        """The size of the networks that were trained on the metric's data set, with its classes and image size.

        :raises UserError: unknown metric.
        """
        self.column(metric)
        images = metric.split("/")[0]
        if images not in _IMAGES:
            raise UserError(f"metric {metric} must begin with the name of its images, one of {', '.join(_IMAGES)}")
        classes, size = _IMAGES[images]
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
