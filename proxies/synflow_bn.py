"""``synflow_bn``: ``synflow`` with the batch norms kept, log sum |W dR/dW|.

Abdelfattah, Mehrotra, Dudziak, Lane: "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, whose program has it beside
``synflow`` (:mod:`proxies.synflow`): every parameter is replaced by its absolute value, those of the batch norms too,
and one image of ones goes through in float64. There the network is in training mode, so a batch norm normalises by the
mean and variance over the pixels of that one image: what comes out is no longer positive, the flow no longer conserved.
``norm="eval"`` uses the running statistics, with which an untrained network has the value of ``synflow`` but for the
norm's epsilon.

Departures: the logarithm, as in ``synflow``; dropouts are silent; running statistics keep their sign. A batch norm of a
single pixel has no variance in training mode: no value. With the image's statistics the value of a few networks (1 of
30 random DARTS cells) is the logarithm of rounding errors, far below all others: the norms take out all that would
flow.
"""

from __future__ import annotations

from proxies.base import NormMode, Probe, Proxy, ProxyError
from proxies.engine.modes import norm_mode
from proxies.robust import check_norm
from proxies.synflow import log_flow, shared_parameters


class SynflowBn(Proxy):
    """Higher is better.

    :param norm: statistics of the batch norms.
    """

    name = "synflow_bn"
    direction = "maximize"
    cost = "backward"

    def __init__(self, *, norm: NormMode = "train"):
        check_norm(norm)
        self.norm: NormMode = norm

    def score(self, probe: Probe) -> float:
        with norm_mode(probe.network, self.norm):
            try:
                return log_flow(probe, shared_parameters(probe))
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):  # torch's words
                    raise
                raise ProxyError("a batch norm sees a single pixel, whose variance in training mode is none") from None
