"""``jacob_cov``: how little the input gradients of different images correlate, -sum (log(v + k) + 1 / (v + k)).

Mellor, Turner, Storkey, Crowley: "Neural Architecture Search without Training", 2020 (arXiv 2006.04647v1); as a proxy
in Abdelfattah et al., ICLR 2021. J_n is the gradient of the sum of the logits by image n, v are the eigenvalues of the
correlation matrix of the rows J_n, and k = 1e-5. The matrix is symmetric: its eigenvalues are real, in float64 here.

As in the published program batch norms use the batch's statistics, so J_n also holds what image n does to others; with
``norm="eval"`` it is the gradient of image n alone.

A gradient that is the same in all pixels, such as zero, correlates with nothing: no value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from proxies.base import NormMode, Probe, Proxy, ProxyError, Request
from proxies.robust import check_norm, finite

IMAGES = 32  # of one pass that ``naswot`` and ``diverse_capacity`` share
K = 1e-5  # the published program's


class JacobCov(Proxy):
    """Higher is better.

    :param norm: statistics of the batch norms.
    :param images: images from the start of the probe's batch, 2 at least; by default 32, or all where it holds fewer.
    """

    name = "jacob_cov"
    direction = "maximize"
    cost = "backward"

    def __init__(self, *, norm: NormMode = "train", images: int | None = None):
        check_norm(norm)
        if images is not None and images < 2:
            raise ValueError(f"images must be at least 2, got {images}")
        self.norm: NormMode = norm
        self.images = images

    def requests(self, probe: Probe) -> list[Request]:
        return [Request("input_gradients", self.norm, self._count(probe), function="logits")]

    def score(self, probe: Probe) -> float:
        n = self._count(probe)
        if n < 2:
            raise ProxyError(f"a correlation takes at least 2 images, got {n}")
        values = torch.linalg.eigvalsh(correlation(probe.input_gradients("logits", self.norm, n).flatten(1))) + K
        return finite(-(values.log() + 1 / values).sum().item(), "the score")

    def _count(self, probe: Probe) -> int:
        return len(probe.first(self.images, IMAGES)[1])


def correlation(rows_ND: Tensor) -> Tensor:
    """``(N, N)``, float64: the correlation coefficients of the rows."""
    rows = rows_ND.double()
    lengths = rows.norm(dim=1)
    finite(lengths.sum().item(), "the length of the input gradients")
    centred = rows - rows.mean(1, keepdim=True)
    deviations = centred.norm(dim=1)
    constant = int((deviations <= torch.finfo(rows_ND.dtype).eps * lengths).sum())
    if constant:
        raise ProxyError(f"the input gradients of {constant} of {len(rows)} images do not vary between pixels")
    normalised: Tensor = centred / deviations.unsqueeze(1)
    return normalised @ normalised.t()
