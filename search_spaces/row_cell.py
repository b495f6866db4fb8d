"""A cell of the DARTS family on rows (:mod:`search_spaces.rows`), forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from search_spaces import operations
from search_spaces.row_convolutions import Pointwise, Reduce
from search_spaces.row_operations import AvgPool, MaxPool, Relu, Skip
from search_spaces.row_separable import Separable, Twice
from search_spaces.rows import Gradient, NotPlain, Parameters, RowOperation, Rows

if TYPE_CHECKING:
    from search_spaces.cell_network import CellModule

#: How each kind of module runs on rows; a cell with any other runs module by module.
ON_ROWS: dict[type[nn.Module], Callable[[Any, Parameters], RowOperation]] = {
    operations.SepConv: Twice,
    operations.DilConv: Separable,
    operations.SeparableConv: Separable,
    operations.FactorizedReduce: Reduce,
    operations.ConvNorm: Pointwise,
    operations.AvgPool: AvgPool,
    nn.MaxPool2d: MaxPool,
    nn.Identity: Skip,
}


class Cell:
    """One cell on rows.

    :param activate: whether the output goes through a ReLU, which then is that of the nodes.
    """

    def __init__(self, cell: CellModule, parameters: Parameters, *, activate: bool):
        for container in (cell.operations, cell.activations):
            if operations.hooked(container):
                raise NotPlain
        self._parameters = parameters
        self._preprocess = [_on_rows(each, parameters) for each in (cell.preprocess0, cell.preprocess1)]
        edges = iter([(_on_rows(each, parameters), isinstance(each, operations.ACTIVATED)) for each in cell.operations])
        #: by node, of each edge: the operation, its source, whether it reads the source's ReLU
        self._nodes = [[(*next(edges), source) for source in sources] for sources in cell.sources]
        self._concat, self._activate = cell.concat, activate
        read = {(activated, source) for edges in self._nodes for _, activated, source in edges}
        read |= {(activate, entry) for entry in cell.concat}
        heard = {source for edges in self._nodes for _, activated, source in edges if activated}
        given = {state for state, each in enumerate(self._preprocess) if not each.fresh}  # the cell's inputs themselves
        self._relus = {
            state: Relu(
                cell.activations[state] if state in heard else None, parameters,
                alone=(False, state) not in read and state not in given,
            )
            for activated, state in read
            if activated
        }  # fmt: skip

    def forward(self, before_last: Rows, last: Rows) -> Rows:
        """``relu(x_{k-2})``, ``relu(x_{k-1})`` -> ``x_k``, or its ReLU."""
        states = [each.forward(x) for each, x in zip(self._preprocess, (before_last, last), strict=True)]
        active: dict[int, Rows] = {}

        def read(activated: bool, state: int) -> Rows:
            if not activated:
                return states[state]
            if state not in active:
                active[state] = self._relus[state].forward(states[state])
            return active[state]

        for edges in self._nodes:
            states.append(self._sum((operation, read(activated, source)) for operation, activated, source in edges))
        parts = [read(self._activate, entry) for entry in self._concat]
        return Rows(torch.cat([part.values for part in parts], 1), parts[0].pixels)

    def backward(self, gradient: Tensor, into: Sequence[Gradient]) -> None:
        """From the output's gradient to those of ``relu(x_{k-2})`` and ``relu(x_{k-1})``, which it is added to."""
        #: by state: the gradients before and behind its ReLU
        found = [(Gradient(), Gradient()) for _ in range(2 + len(self._nodes))]
        for entry, part in zip(self._concat, gradient.chunk(len(self._concat), 1), strict=True):
            found[entry][self._activate].add(part, own=False)

        def settled(state: int) -> Tensor | None:
            before, behind = found[state]
            if behind.value is not None:
                before.add_all(self._relus[state].before(behind))
            return before.value

        for state in reversed(range(2, len(found))):
            value = settled(state)
            for operation, activated, source in self._nodes[state - 2] if value is not None else ():
                operation.backward(value, found[source][activated])  # type: ignore[arg-type]
        for state in (1, 0):
            value = settled(state)
            if value is not None:
                self._preprocess[state].backward(value, into[state])

    def _sum(self, edges: Iterable[tuple[RowOperation, Rows]]) -> Rows:
        """A node: products that add to each other first, then what is no product; edges are computed in their order."""
        products, others = [], []
        biases: list[Tensor] = []
        for operation, x in edges:
            if isinstance(operation, Separable | Twice) and operation.pointwise.norm is None:
                products.append(operation.last(x))
                if operation.pointwise.bias is not None:
                    biases.append(self._parameters.tensors[operation.pointwise.bias])
            else:
                others.append((operation.fresh, operation.forward(x)))
        total: Rows | None = None
        plus = sum(biases[1:], biases[0]) if biases else None
        for separable, x in products:
            total = separable.product(x, plus)
            plus = total.values
        own = total is not None
        for fresh, x in sorted(others, key=lambda other: not other[0]):
            if total is None:
                total, own = x, fresh
            elif own:
                total.values.add_(x.values)
            else:
                total, own = Rows(total.values + x.values, total.pixels), True
        assert total is not None
        return total if own else Rows(total.values.clone(), total.pixels)


def _on_rows(module: nn.Module, parameters: Parameters) -> RowOperation:
    make = ON_ROWS.get(type(module))
    if make is None:
        raise NotPlain
    return make(module, parameters)
