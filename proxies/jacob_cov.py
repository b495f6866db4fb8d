"""``jacob_cov``: how little the input gradients of different images correlate, -sum (log(v + k) + 1 / (v + k)).

Mellor, Turner, Storkey, Crowley: "Neural Architecture Search without Training", 2020 (arXiv 2006.04647v1); as a proxy
in Abdelfattah et al., ICLR 2021. J_n is the gradient of the sum of all logits with respect to image n, v are the
eigenvalues of the correlation matrix of the rows J_n, and k = 1e-5. The matrix is symmetric, so its eigenvalues are
real; they are computed in float64.

As in the published program, batch norms use the statistics of the batch, so J_n includes the influence of image n on
the logits of the other images; with ``norm="eval"`` it is the gradient of the logits of image n alone.

The correlation with a gradient that is the same in all pixels, such as zero, is undefined: such a network has no value.
Neither has one whose summed logits do not depend on the images when batch norms use the statistics of the batch
(:func:`~proxies.engine.checks.check_not_rounding`), as with many cells without a pooling, almost all published ones
among them. There the published program computes the correlation of rounding errors. ``norm="eval"`` has a value for
all of them, which orders cells in another way.
"""

from __future__ import annotations

import torch
from torch import Tensor

from proxies.base import NormMode, Probe, ProxyError, Request
from proxies.engine.checks import check_word, finite
from proxies.engine.first_images import FirstImagesProxy

IMAGES = 32  # also the default of ``naswot`` and ``diverse_capacity``, so that they can share a pass
K = 1e-5  # from the published program


class JacobCov(FirstImagesProxy):
    """Higher is better.

    :param norm: statistics of the batch norms.
    :param images: images from the start of the probe's batch, 2 at least; by default 32, or all where it holds fewer.
    """

    name = "jacob_cov"
    direction = "maximize"
    cost = "backward"
    stackable = True
    default_images = IMAGES
    least_images = 2

    def __init__(self, *, norm: NormMode = "train", images: int | None = None):
        super().__init__(images)
        check_word("norm", norm, NormMode)
        self.norm: NormMode = norm

    def requests(self, probe: Probe) -> list[Request]:
        return [Request("input_gradients", self.norm, self.count(probe), function="logits")]

    def score(self, probe: Probe) -> float:
        gradients = probe.input_gradients("logits", self.norm, self.count(probe))
        values = torch.linalg.eigvalsh(correlation(gradients.flatten(1))) + K
        return finite(-(values.log() + 1 / values).sum().item(), "the score")


def correlation(rows_ND: Tensor) -> Tensor:
    """``(N, N)``, float64: the correlation coefficients of the rows, the input gradients of N images.

    :raises ProxyError: fewer than two rows, one that is not finite, or one that is constant.
    """
    if len(rows_ND) < 2:
        raise ProxyError(f"a correlation takes at least 2 images, got {len(rows_ND)}")
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
