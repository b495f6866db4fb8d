"""Every proxy still has the scores of ``scores.json``, which were computed before networks became plain modules.

Scores are compared by their relative difference. Each proxy has a tolerance for the cell that differs most, and half of
the cells must agree to ``TYPICAL``, which is rounding in float32.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

import pytest
import torch

import proxies
from tests.golden.make_scores import CELLS, SCORES, SIZES, scores_of

Cell = tuple[str, int]

#: Cells of each space that are compared by default; the others are slow.
COMPARED = {"darts": 5, "nasbench201": 12}

TYPICAL = 2e-5
ROUNDING = 1e-5
COUNTED = 0.0

#: A ReLU whose input is zero up to rounding is on in one way of computing and off in another. In networks as small as
#: these, where batch norms use the statistics of 8 images, one such unit changes the gradients of a whole layer.
RELU = 2e-3
RELU_SIGNED = 3e-2  # likewise, and terms of either sign cancel, or are squared

TOLERANCES = {
    "robust": ROUNDING,
    "robust_released": ROUNDING,
    "grad_norm": RELU,
    "snip": RELU,
    "plain": RELU_SIGNED,
    "l2_norm": ROUNDING,
    "grasp": RELU_SIGNED,  # a second derivative
    "fisher": RELU_SIGNED,
    "jacob_cov": 5e-4,  # 1 / v of an eigenvalue v near zero
    "synflow": 1e-12,  # in float64
    "synflow_bn": 1e-10,  # likewise
    "naswot": ROUNDING,
    "zico": 6e-2,  # divides by |g_1 - g_2|, which for some weights is rounding alone
    "zen": ROUNDING,
    "az_expressivity": ROUNDING,
    "az_progressivity": 1e-4,  # the difference of two entropies
    "az_trainability": 1e-4,  # 2 - sigma - 1 / sigma, near its maximum of zero
    "az_complexity": COUNTED,
    "croze": ROUNDING,
    "snap": RELU,  # a count of patterns of ReLUs
    "con_js": ROUNDING,
    "diverse_capacity": 5e-5,  # has the eigenvalues of jacob_cov
    "params": COUNTED,
    "macs": COUNTED,
    "conv_count": COUNTED,
}

#: Proxies whose median difference is larger, for the reason that is given with their tolerance.
TYPICAL_OF = {"zico": 5e-3}

STORED = json.loads(SCORES.read_text())


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums do not depend on the number of threads, and small networks are faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def found(one_thread: None) -> dict[Cell, dict[str, float | None]]:
    return {(space, number): computed(space, number) for space in SIZES for number in range(COMPARED[space])}


def computed(space: str, number: int) -> dict[str, float | None]:
    """The scores of a cell that is drawn as it was then."""
    key, scores = scores_of(space, number, proxies.PROXIES)
    assert key == STORED[space][str(number)]["key"]
    return scores


def difference(cell: Cell, name: str, score: float | None) -> float | None:
    """Relative to the stored score; None where this proxy has no score, which must be so before and now."""
    space, number = cell
    expected = STORED[space][str(number)]["scores"][name]
    if score is None or expected is None:
        assert score is expected, f"{name} of cell {number} of {space} is {score}, expected {expected}"
        return None
    return float(abs(score - expected) / abs(expected)) if expected else float(abs(score))


def test_every_proxy_has_a_tolerance() -> None:
    assert set(TOLERANCES) == set(proxies.PROXIES)


@pytest.mark.parametrize("name", TOLERANCES)
def test_scores_are_those_of_before(found: dict[Cell, dict[str, float | None]], name: str) -> None:
    differences = {cell: each for cell in found if (each := difference(cell, name, found[cell][name])) is not None}
    assert len(differences) > len(found) / 2
    worst = max(differences, key=lambda cell: differences[cell])
    assert differences[worst] <= TOLERANCES[name], f"cell {worst[1]} of {worst[0]}"
    assert statistics.median(differences.values()) <= TYPICAL_OF.get(name, TYPICAL)


@pytest.mark.slow
@pytest.mark.parametrize(("space", "number"), [(space, n) for space in SIZES for n in range(COMPARED[space], CELLS)])
def test_scores_of_the_other_cells(one_thread: None, space: str, number: int) -> None:
    for name, score in computed(space, number).items():
        different = difference((space, number), name, score)
        assert different is None or different <= TOLERANCES[name], name
