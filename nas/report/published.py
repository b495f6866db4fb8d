"""Published correlations of proxies with robust accuracy, which a page shows next to the scores of a run.

Kendall's tau between the score of an untrained network and its PGD robust accuracy after adversarial training, on the
223 DARTS cells of Tiny-RobustBench (16 channels, 8 layers, CIFAR-10, PGD-7 training at epsilon 8/255). The values are
from the logs of Feng et al., "Zero-cost Proxy for Adversarial Robustness Evaluation" (ICLR 2025,
https://github.com/fyqsama/ZCP); those of the baselines, which need no proxy, are recomputed from the records.
"""

from __future__ import annotations

from dataclasses import dataclass

CELLS = 223

#: Half the width of a 95 % interval around a tau of this size on 223 cells, from the null variance of tau,
#: 2 (2 n + 5) / (9 n (n - 1)) (Kendall 1938): 1.96 * 0.045.
HALF_WIDTH = 0.09


#: This project's own results in docs/results/correlation-tiny-robustbench.md: tau of ``robust`` (the paper's formula)
#: and of the parameter count, on ``cells`` of the 223 cells.
OWN = {"tau": "+0.420", "cells": "110", "params": "+0.428"}


@dataclass(frozen=True)
class PublishedTau:
    """The published tau of one score.

    ``name`` is the name of the proxy in a run; ``baseline`` marks a property of the cell that needs no proxy; ``kin``
    is the name of a related proxy whose own tau is not published.
    """

    name: str
    title: str
    tau: float
    baseline: bool = False
    kin: str = ""

    @property
    def pairs_right(self) -> int:
        """Out of 100 pairs of cells, the number that the score puts in the right order (without ties)."""
        return round(50 * (1 + self.tau))


PUBLISHED = (
    PublishedTau("params", "parameter count", 0.414, baseline=True),
    PublishedTau("conv_count", "number of conv and linear layers", 0.411, baseline=True),
    PublishedTau("parametric_operations", "operations other than skip and pool", 0.396, baseline=True),
    PublishedTau("macs", "MACs", 0.388, baseline=True),
    PublishedTau("robust_released", "robust proxy, the authors' program", 0.334, kin="robust"),
    PublishedTau("synflow", "synflow", 0.233),
    PublishedTau("grad_norm", "grad_norm", 0.174),
    PublishedTau("snip", "snip", 0.171),
    PublishedTau("grasp", "grasp", 0.038),
    PublishedTau("fisher", "fisher", 0.006),
    PublishedTau("jacob_cov", "jacob_cov", -0.027),
    PublishedTau("plain", "plain", -0.054),
    PublishedTau("synflow_bn", "synflow_bn", -0.171),
)
