"""The baselines that every proxy has to beat: measures of the size of the network."""

from __future__ import annotations

from proxies.base import Probe, Proxy


class Params(Proxy):
    """Number of trainable parameters; more is better."""

    name = "params"
    direction = "maximize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        return float(probe.params)


class Macs(Proxy):
    """Multiply-accumulates of convolutions and linear layers for one image; more is better."""

    name = "macs"
    direction = "maximize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        return float(probe.macs)


class ConvCount(Proxy):
    """Number of convolutions and linear layers; more is better."""

    name = "conv_count"
    direction = "maximize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        return float(len(probe.layer_weights))
