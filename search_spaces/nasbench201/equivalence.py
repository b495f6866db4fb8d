"""Which NAS-Bench-201 cells are one network, and which the benchmark counts as one.

A node's value is a sum of terms. A term is the cell's input or the output of one of the cell's convolutions, pooled
so and so many times: ``skip_connect`` passes a sum on, ``none`` adds nothing, and average pooling is linear, so that it
goes into the sum. Two cells are one network (:func:`representative`) if renaming the convolutions makes their outputs,
and what each convolution reads, the same sums. Convolutions that reach no output count by their number: their weights
change no logit, but they are parameters. A convolution of nothing stays: its batch norm still has a bias.

That makes 5,924 networks of the 15,625 cells. The benchmark's own program compares texts instead
(:func:`published_key`) and finds 6,466 classes, 578 of which hold several of these networks: in a text, a module that
is used twice looks like two, so that ``conv(x) + conv(x)``, one convolution through two paths, and ``conv1(x) +
conv2(x)`` are one class, with different functions and parameters. On the other hand, sums are sorted but not flattened
and zeros are kept in them, so that one function can have several texts. Neither relation refines the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import permutations, product
from typing import Any

from search_spaces.nasbench201.genotype import EDGES, NODES, OPERATIONS, OUTPUT, EdgeGenotype

CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")

_INPUT = -1  # in place of a convolution's edge, the cell's input
_Term = tuple[int, int]  # how often pooled; the edge of a convolution
_Sum = list[_Term]


def representative(genotype: EdgeGenotype) -> EdgeGenotype:
    """Of the cells that are one network with ``genotype``, the one with the least digits."""
    return _representatives(_counts(genotype.operations))[genotype.operations]


@cache
def _representatives(counts: tuple[int, ...]) -> dict[tuple[str, ...], EdgeGenotype]:
    """For all cells with so many convolutions of each kind, at most 2,430 cells: a tenth of a second, once."""
    first: dict[Any, EdgeGenotype] = {}
    found = {}
    for operations in product(OPERATIONS, repeat=len(EDGES)):  # least digits first
        if _counts(operations) == counts:
            form = network_form(operations)
            if form not in first:
                first[form] = EdgeGenotype(operations)
            found[operations] = first[form]
    return found


def _counts(operations: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(map(operations.count, CONVOLUTIONS))


def network_form(operations: tuple[str, ...]) -> Any:
    """A value equal for cells that are one network: the output's sum, the convolutions with theirs, those unused."""
    output, read = _sums(operations)
    used = _reached(output, read)
    unused = [operations[edge] for edge in read if edge not in used]
    forms = []
    for order in _orders(used, operations, read):
        number = {_INPUT: _INPUT, **{edge: place for place, edge in enumerate(order)}}
        sums = (output, *(read[edge] for edge in order))
        forms.append([sorted((pools, number[edge]) for pools, edge in terms) for terms in sums])
    names = tuple(operations[edge] for edge in order)
    return tuple(map(tuple, min(forms))), names, tuple(sorted(unused))


def _sums(operations: tuple[str, ...]) -> tuple[_Sum, dict[int, _Sum]]:
    """The output, and by edge what each convolution reads."""
    values: list[_Sum] = [[(0, _INPUT)], *([] for _ in range(NODES - 1))]
    read: dict[int, _Sum] = {}
    for edge, ((source, target), operation) in enumerate(zip(EDGES, operations, strict=True)):
        if operation in CONVOLUTIONS:
            read[edge] = values[source]  # complete: the edges into a node stand before those out of it
            values[target].append((0, edge))
        elif operation == "skip_connect":
            values[target] += values[source]
        elif operation == "avg_pool_3x3":  # a convolution of nothing is constant, and pooling keeps constants
            values[target] += [(pools + (read.get(term) != []), term) for pools, term in values[source]]
    return values[OUTPUT], read


def _reached(output: _Sum, read: dict[int, _Sum]) -> list[int]:
    """The convolutions that the output depends on, in the order of their edges."""
    found = {edge for _, edge in output}
    for edge in sorted(read, reverse=True):
        if edge in found:
            found.update(term for _, term in read[edge])
    return sorted(found - {_INPUT})


def _orders(used: list[int], operations: tuple[str, ...], read: dict[int, _Sum]) -> Iterator[tuple[int, ...]]:
    """All orders of the convolutions by what they are and read; those equal in that, in every order."""
    if len(used) < 2:
        yield tuple(used)
        return
    kinds: dict[int, Any] = {_INPUT: ()}
    of_kind: dict[Any, list[int]] = {}
    for edge in used:
        kinds[edge] = (operations[edge], *sorted((pools, kinds[term]) for pools, term in read[edge]))
        of_kind.setdefault(kinds[edge], []).append(edge)
    for parts in product(*(permutations(of_kind[kind]) for kind in sorted(of_kind))):
        yield tuple(edge for part in parts for edge in part)


def published_key(genotype: EdgeGenotype) -> str:
    """The benchmark's text, equal for cells that it counts as isomorphic: 6,466 texts for the 15,625 cells.

    ``none`` is zero, and so is every operation on a node that is exactly the text of zero; a sum of zeros is not.
    ``skip_connect`` repeats the text of its source, brackets left out. The parts of a sum are sorted as texts, the sum
    behind a skip as one part, so the classes depend on the spelling of the operations' names.
    """
    texts = ["0"]
    for node in genotype.nodes:
        parts = []
        for name, source in node:
            if name == "none" or texts[source] == "#":
                parts.append("#")
            else:
                parts.append(texts[source] if name == "skip_connect" else f"({texts[source]})@{name}")
        texts.append("+".join(sorted(parts)))
    return texts[-1]
