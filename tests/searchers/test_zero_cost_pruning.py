from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from proxies.robust import Robust, log_robustness
from search_spaces.nasbench201.genotype import OPERATIONS
from searchers.untrained_supernet import Mixture, drawn_supernet
from searchers.zero_cost_pruning import ZeroCostPruning
from tests.searchers.supernets import linear, prizes, resumed, searcher_on, told, without_none


@pytest.mark.parametrize(("space", "decisions"), [("darts", 28 + 6), ("nasbench201", 6)])
def test_keeps_what_costs_most(space: str, decisions: int) -> None:
    """Of a score that is a sum over edges, the best operation of each edge, and of each node the best edges."""
    prize = prizes(space)
    searcher = searcher_on(ZeroCostPruning, space, score=linear(prize))
    keys = told(searcher, decisions + 3)
    assert searcher.steps == len(searcher.records) == decisions
    best = searcher.relaxable.derive(without_none(space, prize))
    assert keys[decisions - 1] == searcher.space.canonical(best)
    assert len(set(keys[decisions - 1 :])) == 4  # with three neighbours
    entropies = [record["entropy"] for record in searcher.records]
    assert entropies == sorted(entropies, reverse=True) and entropies[-1] == 0


def test_the_first_decision_is_that_of_a_literal_loop() -> None:
    searcher = searcher_on(ZeroCostPruning, "nasbench201", draws=2, supernet_images=4)
    given, proxy = searcher.material, Robust()
    costs: dict[int, float] = {}
    name, (edge,) = searcher._decisions[0]
    for operation in (1, 2, 3, 4):
        total = 0.0
        for draw in range(2):
            supernet = drawn_supernet(searcher.relaxable, given, 0, 0, draw)
            mixing = torch.tensor([[0.0, 0.25, 0.25, 0.25, 0.25]]).repeat(6, 1)
            mixing[edge, operation] = 0
            cells = [block for block in supernet.blocks if hasattr(block, "edges")]
            every = sum(each.numel() for each in supernet.network_parameters())
            for cell in cells:
                for i in range(6):
                    for j in range(5):
                        params = sum(each.numel() for each in cell.edges[i].operations[j].parameters())
                        every -= (1 - mixing[i, j].item()) * params
            network = Mixture(supernet, {name: mixing})
            images, labels = given.probe_images[:4], given.probe_labels[:4]
            total += log_robustness(proxy, network, images, labels, params=torch.tensor(every)).item()
        costs[operation] = total / 2
    told(searcher, 1)
    (record,) = searcher.records
    expected = torch.tensor([[0.0, 0.25, 0.25, 0.25, 0.25]]).repeat(6, 1)
    expected[edge] = torch.eye(5)[min(costs, key=costs.__getitem__)]
    assert torch.equal(torch.tensor(record["weights"]["cell"]), expected)
    assert record["least_log_robustness"] == pytest.approx(min(costs.values()), rel=1e-5)
    assert record["most_log_robustness"] == pytest.approx(max(costs.values()), rel=1e-5)


def test_a_resumed_search_is_the_same() -> None:
    make = partial(searcher_on, ZeroCostPruning, "nasbench201")
    whole = make()
    keys = told(whole, 9)
    for trials in (2, 7):
        first = make()
        told(first, trials)
        second = resumed(first, make(), keys[:trials])
        assert told(second, 9 - trials) == keys[trials:]
        assert second.records == whole.records


def test_the_order_of_edges_is_drawn_from_the_seed() -> None:
    orders = [searcher_on(ZeroCostPruning, "darts", seed=seed)._decisions for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    singles, nodes = orders[0][:28], orders[0][28:]
    assert sorted(singles) == [(name, [edge]) for name in ("normal", "reduce") for edge in range(14)]
    assert sorted((name, edges[0], len(edges)) for name, edges in nodes) == [
        (name, first, count) for name in ("normal", "reduce") for first, count in ((2, 3), (5, 4), (9, 5))
    ]


def test_a_node_decides_among_networks_that_lack_one_of_its_edges() -> None:
    seen: list[tuple[float, int]] = []

    def score(network: Mixture, images: Tensor, labels: Tensor, *, params: Tensor) -> Tensor:
        seen.append((params.item(), int((network.mixing["normal"].sum(-1) == 0).sum())))
        return torch.tensor(0.0)

    searcher = searcher_on(ZeroCostPruning, "darts", score=score)
    searcher.steps = 28
    name = searcher._decisions[28][0]
    for each in searcher._left.values():
        each.copy_(torch.eye(8)[4].expand(14, 8))  # sep_conv_3x3 on all edges
    searcher.advance()
    removed = 1 if name == "normal" else 0
    assert {count for _, count in seen} == {removed} and len({params for params, _ in seen}) == 1
    assert (searcher._kept[name] == 0).sum() == len(seen) - 2


def test_what_is_not_decided_is_drawn_from_the_seed() -> None:
    score = linear(prizes("nasbench201"))
    first, second = (searcher_on(ZeroCostPruning, "nasbench201", score=score, seed=seed) for seed in (0, 1))
    assert told(first, 1) != told(second, 1)
    name, (edge,) = first._decisions[0]
    best = int(without_none("nasbench201", prizes("nasbench201"))[name][edge].argmax())
    assert first.derived.operations[edge] == OPERATIONS[best]
    assert len({*first.derived.operations}) > 1 and "none" not in first.derived.operations
