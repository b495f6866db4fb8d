"""``synflow_bn``: ``synflow`` with the batch norms kept, log sum |W dR/dW|.

Abdelfattah, Mehrotra, Dudziak, Lane: "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, whose program has it beside
``synflow`` (:mod:`proxies.synflow`): every parameter is replaced by its absolute value, those of the batch norms too,
and the input is one image of ones, in float64. In the program the network is in training mode, so a batch norm
normalises by mean and variance over the pixels of that one image: its output is no longer positive, and the flow is no
longer conserved. ``norm="eval"`` uses the running statistics, with which an untrained network has the value of
``synflow``, up to the norm's epsilon.

Departures: the score is the logarithm, as in ``synflow``; dropout is off; running statistics keep their sign. Where a
batch norm receives a single pixel there is no variance in training mode, and so no value.

With the statistics of the image, R is constant if every path to the logits ends in a batch norm, as in many cells
without a pooling: the mean of each channel over the pixels is the norm's bias. The published program then gives a sum
of rounding errors, here there is no value. That is decided by :func:`~proxies.engine.checks.check_not_rounding`, where
the terms of R are the pixels of the last features. As a measure of their gradients it takes the flow of another R: the
logits of the image less those of an image of zeros, both in one batch, which batch norms do not keep constant.
"""

from __future__ import annotations

import torch

from proxies.base import NormMode, Probe, Proxy, ProxyError
from proxies.engine.checks import check_not_rounding, check_word, log_or_error
from proxies.engine.modes import norm_mode, uses_batch_statistics
from proxies.synflow import flow, shared_parameters


class SynflowBn(Proxy):
    """Higher is better.

    :param norm: statistics of the batch norms.
    """

    name = "synflow_bn"
    direction = "maximize"
    cost = "backward"

    def __init__(self, *, norm: NormMode = "train"):
        check_word("norm", norm, NormMode)
        self.norm: NormMode = norm

    def score(self, probe: Probe) -> float:
        parameters = shared_parameters(probe)
        with norm_mode(probe.network, self.norm):
            try:
                total = flow(probe, parameters)
                score = log_or_error(total, "the synaptic flow")
                if uses_batch_statistics(probe.network, self.norm):
                    terms = flow(probe, parameters, difference=True)
                    check_not_rounding(total, terms, torch.float64, "the logits of an image of ones")
                return score
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):  # torch's message
                    raise
                raise ProxyError("a batch norm receives a single pixel, which has no variance") from None
