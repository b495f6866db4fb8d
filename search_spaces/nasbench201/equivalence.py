"""Which NAS-Bench-201 cells build the same network, and which cells the benchmark counts as isomorphic.

A node's value is a sum of terms. A term is the cell's input or the output of one of the cell's convolutions, average
pooled zero or more times: ``skip_connect`` passes a sum on, ``none`` adds nothing, and average pooling is linear, so it
applies to each term. Two cells are the same network (:func:`representative`) if, after the convolutions of one are
renamed, the output and the input of each convolution are the same sums. Of convolutions that the output does not depend
on, only the kinds are compared: their weights change no logit, but they are parameters. A convolution whose input is
the empty sum, zero, is kept: its batch norm still has a bias.

The 15,625 cells are 5,924 networks. The benchmark's own program compares texts instead (:func:`published_key`) and
finds 6,466 classes, 578 of which hold several of these networks. A text does not tell one module that is used twice
from two modules: ``conv(x) + conv(x)``, one convolution reached by two paths, and ``conv1(x) + conv2(x)`` are in one
class, although functions and parameters differ. On the other hand, the texts sort sums but do not flatten them and keep
zeros in them, so one function can have several texts. Thus neither equivalence refines the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import permutations, product
from typing import Any

from search_spaces.nasbench201.genotype import EDGES, NODES, OPERATIONS, OUTPUT, EdgeGenotype

CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")

_INPUT = -1  # the cell's input, where a term would name the edge of a convolution
_Term = tuple[int, int]  # how many times it is pooled; the edge of the convolution, or _INPUT
_Sum = list[_Term]


def representative(genotype: EdgeGenotype) -> EdgeGenotype:
    """Of the cells that build the same network as ``genotype``, the one with the least digits."""
    return _representatives(_counts(genotype.operations))[genotype.operations]


@cache
def _representatives(counts: tuple[int, ...]) -> dict[tuple[str, ...], EdgeGenotype]:
    """The representatives of all cells with ``counts`` of convolutions, at most 2,430: a tenth of a second, once."""
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
    """A value equal for equal networks: sums at the output and the convolutions, kinds of used and unused."""
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
    """The sum at the output, and for each convolution, by its edge, the sum that it reads."""
    values: list[_Sum] = [[(0, _INPUT)], *([] for _ in range(NODES - 1))]
    read: dict[int, _Sum] = {}
    for edge, ((source, target), operation) in enumerate(zip(EDGES, operations, strict=True)):
        if operation in CONVOLUTIONS:
            read[edge] = values[source]  # complete: edges into a node come before edges out of it
            values[target].append((0, edge))
        elif operation == "skip_connect":
            values[target] += values[source]
        elif operation == "avg_pool_3x3":  # a convolution of zero is constant; pooling keeps constants
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
    """The convolutions sorted by kind and by what they read; those equal in both, in every possible order."""
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

    ``none`` gives the text of zero, ``#``, and so does every operation on a node whose text is exactly ``#``; a sum of
    zeros is not simplified. ``skip_connect`` repeats the text of its source without brackets. The parts of a sum are
    sorted as texts; a sum that a skip repeats is one part. So the classes depend on the spelling of operation names.
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
