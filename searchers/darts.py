"""Differentiable architecture search, https://arxiv.org/abs/1806.09055 (Liu, Simonyan, Yang; ICLR 2019), and variants.

A supernet (:mod:`search_spaces.cells.supernet`) is trained, its weights on one half of the training images and its
architecture weights on the other (:mod:`searchers.bilevel`). The cell derived after each epoch is proposed. The
variants are options:

* ``partial_channels``: PC-DARTS (Xu et al., ICLR 2020, https://arxiv.org/abs/1907.05737; there 4, with
  ``warm_up_epochs`` 15 of 50, ``batch_size`` 256, and learning rates of 0.1 and 6e-4);
* ``gumbel``: GDAS (Dong and Yang, CVPR 2019, https://arxiv.org/abs/1910.04465; there from 10 on);
* ``inner``: losses of adversarial images, as RobNet (Guo et al., CVPR 2020, https://arxiv.org/abs/1911.10695) and RACL
  (Dong et al., 2020, https://arxiv.org/abs/2009.00902) search;
* ``curvature_weight``: AdvRush (:func:`searchers.adversarial.curvature`; there 0.01, from epoch 50 of 60 on);
* ``stop_at_skips``: early stopping of DARTS+ (Liang et al., 2019, https://arxiv.org/abs/1909.06035; there 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from searchers.base import Searcher, check_number, check_whole
from searchers.supernet import Step, SupernetSearcher

if TYPE_CHECKING:
    from search_spaces.base import NetworkSpec
    from searchers.bilevel import Bilevel

G = TypeVar("G")

LAST_TEMPERATURE = 0.1  # of Gumbel sampling, as in the published program
Inner = Literal["clean", "fgsm", "pgd"]


class Darts(SupernetSearcher[G]):
    """Proposes the derived cell of each epoch of the supernet's training, then the neighbours of the last one."""

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """The training of the supernet. Defaults are those of DARTS, but for the number of images."""

        epochs: int = field(default=0, metadata={"help": "epochs of the supernet; 0: as many as --budget"})
        order: int = field(default=1, metadata={"help": "1, or 2: the gradient looks one step of the weights ahead"})
        search_images: int = field(
            default=256, metadata={"help": "training images at most, class-balanced, in two halves; 2,000 are better"}
        )
        batch_size: int = field(default=64, metadata={"help": "images of a batch, of each half"})
        learning_rate: float = field(default=0.025, metadata={"help": "of the supernet's weights; it falls to a 25th"})
        architecture_learning_rate: float = field(default=3e-4, metadata={"help": "of the architecture weights"})
        warm_up_epochs: int = field(
            default=0, metadata={"help": "epochs before the architecture weights move (PC-DARTS: 15 of 50)"}
        )
        partial_channels: int = field(
            default=1, metadata={"help": "K of PC-DARTS: one Kth of the channels goes through the operations"}
        )
        gumbel: float = field(
            default=0.0,
            metadata={"help": "GDAS: sample one operation an edge, at this temperature (GDAS: 10), falling to 0.1"},
        )
        inner: Inner = field(
            default="clean", metadata={"help": "images of both losses: clean, fgsm or pgd (adversarial, 8/255)"}
        )
        curvature_weight: float = field(
            default=0.0, metadata={"help": "of AdvRush's input curvature in the architecture's loss (AdvRush: 0.01)"}
        )
        curvature_from: int = field(
            default=0, metadata={"help": "epochs before --curvature-weight counts (AdvRush: 50 of 60)"}
        )
        stop_at_skips: int = field(
            default=0,
            metadata={"help": "end at so many skip connections in the normal cell (DARTS+: 2); 0: never"},
        )

        def __post_init__(self) -> None:
            for name in ("epochs", "warm_up_epochs", "curvature_from", "stop_at_skips"):
                check_whole(name, getattr(self, name), 0)
            check_whole("order", self.order, 1, 2)
            check_whole("search_images", self.search_images, 4)
            check_whole("batch_size", self.batch_size, 4)
            check_whole("partial_channels", self.partial_channels, 1)
            for name in ("learning_rate", "architecture_learning_rate"):
                check_number(name, getattr(self, name), 1e-12)
            check_number("curvature_weight", self.curvature_weight)
            check_number("gumbel", self.gumbel, LAST_TEMPERATURE if self.gumbel else 0.0)
            if self.inner not in get_args(Inner):
                raise ValueError(f"inner must be {' or '.join(get_args(Inner))}, got '{self.inner}'")

    options: Options

    def check_size(self, spec: NetworkSpec) -> None:
        parts = self.options.partial_channels
        if spec.channels is not None and parts > 1 and spec.channels % (2 * parts):
            raise ValueError(
                f"--channels must be a multiple of {2 * parts} with --partial-channels {parts}, got {spec.channels}"
            )

    @property
    def ended(self) -> bool:
        stop, done = self.options.stop_at_skips, self.steps
        if done >= (self.options.epochs or self.material.budget):
            return True
        moved = done > self.options.warm_up_epochs  # before, the architecture weights are as they were drawn
        return bool(stop) and moved and self.records[-1]["skip_connections"] >= stop

    def advance(self) -> Step[G]:
        figures, supernet = self._training.epoch(self.steps), self._training.supernet
        mixing = {name: weights.detach().cpu() for name, weights in supernet.mixing().items()}
        return Step(derived=self.relaxable.derive(supernet.strengths()), mixing=mixing, figures=figures)

    @cached_property
    def _training(self) -> Bilevel:
        import torch

        from searchers.bilevel import Bilevel

        given, options = self.material, self.options
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            supernet = self.relaxable.supernet(given.spec, partial_channels=options.partial_channels)
        return Bilevel(
            supernet.to(given.device), options, given.images, given.labels,
            seed=self.seed, epochs=options.epochs or given.budget,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        begun = "_training" in self.__dict__
        return {**super().state_dict(), "training": self._training.state_dict() if begun else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if state["training"] is not None:
            self._training.load_state_dict(state["training"])
