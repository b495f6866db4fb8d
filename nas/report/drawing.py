"""A diagram as shapes: boxes for vertices and operations, curves between them. The template draws them as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nas.report.diagrams import Diagram, Link, kind_of
from nas.report.layout import PORT_PITCH, Hop, Layout

# In pixels; the template sets operation labels in a monospaced font of 12 pixels.
CHARACTER, LABEL_HEIGHT, LABEL_PADDING, LABEL_LENGTH = 7.3, 22.0, 16.0, 24
PORT_GAP = 30.0  # distance between a vertex and the labels of the links into it
MARGIN = 6.0


class Box(NamedTuple):
    """A rounded rectangle with a label; ``x`` and ``y`` are its upper left corner, in pixels."""

    x: float
    y: float
    width: float
    height: float
    label: str
    kind: str


class Line(NamedTuple):
    """A cubic Bezier curve that is horizontal at both ends; coordinates in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float
    kind: str
    arrow: bool = False

    @property
    def path(self) -> str:
        """The value of the attribute ``d`` of an SVG path."""
        bend = (self.x0 + self.x1) / 2
        start, end = f"{self.x0:.1f} {self.y0:.1f}", f"{self.x1:.1f} {self.y1:.1f}"
        return f"M{start}C{bend:.1f} {self.y0:.1f} {bend:.1f} {self.y1:.1f} {end}"


@dataclass(frozen=True)
class Drawing:
    """The shapes of a diagram; coordinates from ``(0, 0)`` to ``(width, height)``, in pixels."""

    title: str
    width: float
    height: float
    vertices: tuple[Box, ...]
    labels: tuple[Box, ...]
    lines: tuple[Line, ...]


def draw(diagram: Diagram) -> Drawing:
    """The drawing of a diagram, inputs at the left, output at the right."""
    return _Pen(diagram).drawing()


class _Pen:
    """Draws a diagram layer by layer. ``left`` and ``right`` bound each layer; lines are curved only between layers."""

    def __init__(self, diagram: Diagram):
        self.diagram = diagram
        self.layout = Layout(diagram)
        self.left: list[float] = []
        self.right: list[float] = []
        x = MARGIN
        for d, layer in enumerate(self.layout.items):
            vertices = [item.vertex for item in layer if not item.lane]
            width = max(_vertex_width(diagram.vertices[vertex]) for vertex in vertices)
            width += PORT_GAP + max(self._label_width(vertex) for vertex in vertices) if d else 0.0
            self.left.append(x)
            self.right.append(x + width)
            x += width + (self._gap(d) if d < len(self.layout.hops) else 0.0)
        self.vertices: list[Box] = []
        self.labels: list[Box] = []
        self.lines: list[Line] = []

    def drawing(self) -> Drawing:
        """The complete drawing, shifted so that all shapes are within the margins."""
        for d, layer in enumerate(self.layout.items):
            for item in layer:
                y = self.layout.y[item] + MARGIN
                if item.lane:
                    self.lines.append(Line(self.left[d], y, self.right[d], y, "pass"))
                else:
                    self._block(d, item.vertex, y)
        for d, hops in enumerate(self.layout.hops):
            for hop in hops:
                self._hop(d, hop)
        height = max(self.layout.y[item] + self.layout.size(item) / 2 for item in self.layout.y) + 2 * MARGIN
        shapes = tuple(self.vertices), tuple(self.labels), tuple(self.lines)
        return Drawing(self.diagram.title, self.right[-1] + MARGIN, height, *shapes)

    def _block(self, d: int, vertex: int, y: float) -> None:
        """Draw a vertex and, to its left, the labels of the links into it."""
        name = self.diagram.vertices[vertex]
        width = _vertex_width(name)
        x = self.right[d] - width
        kind = "node" if name.isdecimal() else "end"
        height = self.layout.vertex_height(vertex)
        self.vertices.append(Box(x, y - height / 2, width, height, name, kind))
        slots = self.layout.slots(vertex)
        for position, hop in enumerate(slots):
            link = self._link(hop)
            slot, port = y + self.layout.offset(hop), y + PORT_PITCH * (position - (len(slots) - 1) / 2)
            start = self.left[d]
            if link.label:
                label = _cut(link.label)
                start = x - PORT_GAP - self._label_width(vertex)
                box = Box(start, slot - LABEL_HEIGHT / 2, _text_width(label), LABEL_HEIGHT, label, _kind(link))
                self.lines.append(Line(self.left[d], slot, start, slot, _kind(link)))
                self.labels.append(box)
                start += box.width
            straight = x - PORT_GAP
            self.lines.append(Line(start, slot, straight, slot, _kind(link)))
            self.lines.append(Line(straight, slot, x, port, _kind(link), arrow=True))

    def _hop(self, d: int, hop: Hop) -> None:
        kind = "pass" if hop.link is None else _kind(self._link(hop))
        y0 = self.layout.y[hop.start] + MARGIN
        y1 = self.layout.y[hop.end] + self.layout.offset(hop) + MARGIN
        self.lines.append(Line(self.right[d], y0, self.left[d + 1], y1, kind))

    def _gap(self, d: int) -> float:
        """The gap after layer ``d``; the greater the largest vertical distance of its lines, so that none is steep."""
        climbs = [
            abs(self.layout.y[hop.start] - self.layout.y[hop.end] - self.layout.offset(hop))
            for hop in self.layout.hops[d]
        ]
        return min(96.0, 36.0 + 0.3 * max(climbs, default=0.0))

    def _link(self, hop: Hop) -> Link:
        assert hop.link is not None
        return self.diagram.links[hop.link]

    def _label_width(self, vertex: int) -> float:
        return max((_text_width(_cut(self._link(hop).label)) for hop in self.layout.slots(vertex)), default=0.0)


def _kind(link: Link) -> str:
    return kind_of(link.operation) if link.operation else "pass"


def _cut(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"


def _text_width(label: str) -> float:
    return LABEL_PADDING + CHARACTER * len(label) if label else 0.0


def _vertex_width(name: str) -> float:
    return 34.0 if name.isdecimal() else 58.0
