"""Published figures that a run's scores are set beside.

Kendall's tau between an untrained network's score and the PGD robust accuracy it reaches after adversarial training,
on the 223 DARTS cells of Tiny-RobustBench (16 channels, 8 layers, CIFAR-10, PGD-7 training at epsilon 8/255). From the
logs of Feng et al., "Zero-cost Proxy for Adversarial Robustness Evaluation" (ICLR 2025,
https://github.com/fyqsama/ZCP); the baselines, which no proxy is needed for, are recomputed from the records.
"""

from __future__ import annotations

from dataclasses import dataclass

CELLS = 223

#: Half the width of a 95 % interval around a tau of this size on 223 cells, from the null variance of tau,
#: 2 (2 n + 5) / (9 n (n - 1)) (Kendall 1938): 1.96 * 0.045.
HALF_WIDTH = 0.09


#: What docs/results/correlation-tiny-robustbench.md has of ``robust``, the paper's formula, and of the count beside it.
OWN = {"tau": "+0.420", "cells": "110", "params": "+0.428"}


@dataclass(frozen=True)
class PublishedTau:
    """``name`` is the proxy's name in a run; ``baseline`` marks what needs no proxy.

    ``kin`` is a proxy of the same idea whose own figure is not published.
    """

    name: str
    title: str
    tau: float
    baseline: bool = False
    kin: str = ""

    @property
    def pairs_right(self) -> int:
        """Of 100 pairs of cells, how many the score puts in the right order (ties aside)."""
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
