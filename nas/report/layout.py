"""Which layer, order and height everything in a diagram gets, so that nothing that carries a word is ever crossed.

Layered drawing (Sugiyama, Tagawa and Toda 1981) with two changes that fit cells. A vertex is one block together with
the labels of the links into it, one slot each, stacked at its left. And all links of a vertex share one lane through
the layers they pass, since they carry the same tensor. Blocks and lanes of a layer are kept apart, and lines bend only
between layers; hence no label meets another label, a vertex or a foreign line, whatever the cell.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from scipy.optimize import isotonic_regression

from nas.report.diagrams import Diagram, Link

# In pixels.
SLOT_PITCH = 29.0  # from one label of a block to the next
PORT_PITCH = 9.0  # from one line to the next where they enter a vertex
VERTEX_HEIGHT = 34.0
SPACING = 20.0  # least vertical distance between neighbours of a layer
SWEEPS = 12


class Item(NamedTuple):
    """What stands in a layer: a vertex, or the lane of a vertex of an earlier layer."""

    vertex: int
    layer: int
    lane: bool


class Hop(NamedTuple):
    """From an item to one of the next layer; ``link`` is its number in the diagram, None where a lane goes on."""

    start: Item
    end: Item
    link: int | None


class Layout:
    """``items`` per layer, from top to bottom; ``hops`` from each layer to the next; ``y``, the middle of each item."""

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
        """The height of the vertex itself, with a port for each link into it."""
        return max(VERTEX_HEIGHT, PORT_PITCH * len(self.slots(vertex)) + 7)

    def size(self, item: Item) -> float:
        """The height of an item, labels included."""
        if item.lane:
            return 0.0
        return max(self.vertex_height(item.vertex), self.pitch[item.vertex] * len(self.slots(item.vertex)))

    def offset(self, hop: Hop) -> float:
        """Where a hop arrives, relative to the middle of the item it arrives at."""
        if hop.end.lane:
            return 0.0
        slots = self.slots(hop.end.vertex)
        return self.pitch[hop.end.vertex] * (slots.index(hop) - (len(slots) - 1) / 2)

    def crossings(self) -> int:
        """How many pairs of hops cross."""
        total = 0
        for d, hops in enumerate(self.hops):
            starts, ends = ({item: i for i, item in enumerate(layer)} for layer in self.items[d : d + 2])
            spans = [(starts[hop.start], ends[hop.end]) for hop in hops]
            total += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for i, a in enumerate(spans) for b in spans[:i])
        return total

    def _order(self, links: tuple[Link, ...]) -> None:
        """Few crossings: sweeps of barycenters to and fro, after each swaps of neighbours; the best order stays."""
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
        """As level with its neighbours as order and spacing allow: layer by layer a least-squares fit, to and fro."""
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
    """The layer of each vertex: after all it reads; the output after everything, read or not."""
    depth = [0] * len(diagram.vertices)
    for link in sorted(diagram.links, key=lambda link: link.target):
        depth[link.target] = max(depth[link.target], depth[link.source] + 1)
    depth[-1] = max(depth[-1], 1 + max(depth[:-1]))
    return depth


def _level(item: Item, y: dict[Item, float], offsets: dict[Hop, float]) -> float:
    """The mean height of what ``item`` is joined to; that lanes run straight counts most."""
    total = weights = 0.0
    for hop, offset in offsets.items():
        if item in (hop.start, hop.end):
            weight = 4.0 if hop.link is None else 1.0
            total += weight * (y[hop.end] + offset if item == hop.start else y[hop.start] - offset)
            weights += weight
    return total / weights if weights else y[item]
