"""Computes the layer, order and height of everything in a diagram, such that no line crosses a label.

Layered graph drawing (Sugiyama, Tagawa and Toda 1981) with two changes for cells. First, a vertex forms one block with
the labels of the links into it, which are stacked to its left, one slot each. Second, all links out of a vertex share
one lane through the layers that they pass, since they carry the same tensor. The blocks and lanes of a layer do not
overlap, and lines are curved only between layers. Therefore, in any cell, no label overlaps another label, a vertex, or
the line of another link.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from scipy.optimize import isotonic_regression

from nas.report.diagrams import Diagram, Link

# In pixels.
SLOT_PITCH = 29.0  # distance between the labels of a block
PORT_PITCH = 9.0  # distance between lines where they enter a vertex
VERTEX_HEIGHT = 34.0
SPACING = 20.0  # least vertical distance between neighbours in a layer
SWEEPS = 12  # passes over all layers to reduce crossings; not in pixels


class Item(NamedTuple):
    """An element of a layer: a vertex, or the lane of a vertex of an earlier layer."""

    vertex: int
    layer: int
    lane: bool


class Hop(NamedTuple):
    """A line from an item to an item of the next layer.

    ``link`` is the index of its link in the diagram, or None if the hop only continues a lane.
    """

    start: Item
    end: Item
    link: int | None


class Layout:
    """The layout of a diagram.

    ``items`` has the items of each layer from top to bottom, ``hops`` the hops from each layer to the next, and ``y``
    the vertical centre of each item in pixels.
    """

    def __init__(self, diagram: Diagram):
        self.depth = _depths(diagram)
        layers = self.depth[-1] + 1
        count = len(diagram.vertices)
        labelled = {link.target for link in diagram.links if link.label}
        self.pitch = [SLOT_PITCH if vertex in labelled else PORT_PITCH for vertex in range(count)]
        last = list(self.depth)  # the layer in which a vertex's tensor is used last
        for link in diagram.links:
            last[link.source] = max(last[link.source], self.depth[link.target])
        stays = [range(self.depth[v], max(last[v], self.depth[v] + 1)) for v in range(count)]
        self.items = [[self._item(v, d) for v in range(count) if d in stays[v]] for d in range(layers)]
        self.hops: list[list[Hop]] = [[] for _ in range(layers - 1)]
        for vertex, layers_passed in enumerate(stays):
            for d in layers_passed[:-1]:
                self.hops[d].append(Hop(self._item(vertex, d), self._item(vertex, d + 1), None))
        for number, link in enumerate(diagram.links):
            d = self.depth[link.target]
            self.hops[d - 1].append(Hop(self._item(link.source, d - 1), self._item(link.target, d), number))
        self._order(diagram.links)
        self.y = self._heights()

    def _item(self, vertex: int, layer: int) -> Item:
        return Item(vertex, layer, lane=layer > self.depth[vertex])

    def slots(self, vertex: int) -> list[Hop]:
        """The hops into a vertex, from top to bottom."""
        d = self.depth[vertex] - 1
        hops = [hop for hop in self.hops[d] if hop.end == self._item(vertex, d + 1)] if d >= 0 else []
        return sorted(hops, key=lambda hop: self.items[d].index(hop.start))

    def vertex_height(self, vertex: int) -> float:
        """The height of the vertex without labels, in pixels, large enough for the ends of all links into it."""
        return max(VERTEX_HEIGHT, PORT_PITCH * len(self.slots(vertex)) + 7)

    def size(self, item: Item) -> float:
        """The height of an item with its labels, in pixels."""
        if item.lane:
            return 0.0
        return max(self.vertex_height(item.vertex), self.pitch[item.vertex] * len(self.slots(item.vertex)))

    def offset(self, hop: Hop) -> float:
        """Vertical position of the end of a hop, relative to the centre of the item at which it ends, in pixels."""
        if hop.end.lane:
            return 0.0
        slots = self.slots(hop.end.vertex)
        return self.pitch[hop.end.vertex] * (slots.index(hop) - (len(slots) - 1) / 2)

    def crossings(self) -> int:
        """Number of pairs of hops that cross."""
        total = 0
        for d, hops in enumerate(self.hops):
            starts, ends = ({item: i for i, item in enumerate(layer)} for layer in self.items[d : d + 2])
            spans = [(starts[hop.start], ends[hop.end]) for hop in hops]
            total += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for i, a in enumerate(spans) for b in spans[:i])
        return total

    def _order(self, links: tuple[Link, ...]) -> None:
        """Order the items of each layer such that few hops cross.

        Sweeps over the layers, alternately forwards and backwards, sort each layer by barycentres; after each sweep,
        neighbours are swapped if that removes crossings. The best order of all sweeps is kept.
        """
        for hops in self.hops:
            hops.sort(key=lambda hop: "" if hop.link is None else links[hop.link].operation)
        best = (self.crossings(), [list(layer) for layer in self.items])
        for sweep in range(SWEEPS):
            forward = sweep % 2 == 0
            for d in range(1, len(self.items)) if forward else range(len(self.items) - 2, -1, -1):
                self._sort(d, forward)
            self._swap()
            if self.crossings() < best[0]:
                best = (self.crossings(), [list(layer) for layer in self.items])
        self.items = best[1]

    def _sort(self, d: int, forward: bool) -> None:
        other = self.items[d - 1 if forward else d + 1]
        hops = self.hops[d - 1 if forward else d]

        def barycenter(item: Item) -> float:
            ends = [hop.start if forward else hop.end for hop in hops if item == (hop.end if forward else hop.start)]
            return sum(map(other.index, ends)) / len(ends) if ends else float(place[item])

        place = {item: i for i, item in enumerate(self.items[d])}
        self.items[d].sort(key=barycenter)

    def _swap(self) -> None:
        for layer in self.items:
            for i in range(len(layer) - 1):
                before = self.crossings()
                layer[i : i + 2] = layer[i + 1], layer[i]
                if self.crossings() >= before:
                    layer[i : i + 2] = layer[i + 1], layer[i]

    def _heights(self) -> dict[Item, float]:
        """The vertical centre of each item: as close to that of its neighbours as order and spacing allow.

        Each layer in turn is fitted by least squares, in sweeps forwards and backwards over the layers.
        """
        size = {item: self.size(item) for layer in self.items for item in layer}
        y = {item: 60.0 * i for layer in self.items for i, item in enumerate(layer)}
        offsets = {hop: self.offset(hop) for hops in self.hops for hop in hops}
        for sweep in range(4 * SWEEPS):
            for layer in self.items if sweep % 2 == 0 else self.items[::-1]:
                wanted = [_level(item, y, offsets) for item in layer]
                ground = [0.0]  # the least distance of each item from the first
                for above, below in pairwise(layer):
                    ground.append(ground[-1] + (size[above] + size[below]) / 2 + SPACING)
                fitted = isotonic_regression([w - g for w, g in zip(wanted, ground, strict=True)]).x
                y.update({item: float(f) + g for item, f, g in zip(layer, fitted, ground, strict=True)})
        top = min(y[item] - size[item] / 2 for item in y)
        return {item: middle - top for item, middle in y.items()}


def _depths(diagram: Diagram) -> list[int]:
    """The layer of each vertex: after all vertices that it has links from. The output comes after all others."""
    depth = [0] * len(diagram.vertices)
    for link in sorted(diagram.links, key=lambda link: link.target):
        depth[link.target] = max(depth[link.target], depth[link.source] + 1)
    depth[-1] = max(depth[-1], 1 + max(depth[:-1]))
    return depth


def _level(item: Item, y: dict[Item, float], offsets: dict[Hop, float]) -> float:
    """The weighted mean of the heights of the hops' other ends; lanes have a greater weight, to keep them straight."""
    total = weights = 0.0
    for hop, offset in offsets.items():
        if item in (hop.start, hop.end):
            weight = 4.0 if hop.link is None else 1.0
            total += weight * (y[hop.end] + offset if item == hop.start else y[hop.start] - offset)
            weights += weight
    return total / weights if weights else y[item]
