"""A model in training. An epoch depends only on the state before it, the seed, and the number of the epoch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nas.cli.printing import complain
from nas.errors import TrainingStopped, UserError
from nas.images.augmentation import Augmentation
from nas.models.architecture import Architecture, Classifier
from nas.models.checkpoint import check_fit, fit_weights
from nas.training.adversary import PGD
from nas.training.averaging import WeightAverage
from nas.training.config import TrainConfig
from nas.training.images import TrainingImages
from nas.training.layout import LAYOUTS, gpu_seconds, has_layouts, lay_out_faster, one_step
from nas.training.losses import Adversarial, Fast, Mart, Method, Standard, Trades
from nas.training.replay import CudaRecorder, Recorder, Replayed
from nas.training.schedules import make_schedule
from nas.training.sgd import TensorRateSGD

#: number of steps between two reads of the losses, by device; a read waits for all pending work of an accelerator
LOOK_EVERY = {"cpu": 1, "cuda": 50}


@dataclass(frozen=True)
class EpochLoss:
    """One epoch's mean loss, training accuracy and last learning rate.

    ``accuracy`` is the share, in [0, 1], of images classified correctly in the form they were trained on.
    """

    loss: float
    accuracy: float
    learning_rate: float


class Learner:
    """A classifier, its optimiser, and everything else that an epoch changes.

    All random numbers of an epoch come from generators seeded with (seed, epoch, purpose). A checkpoint therefore
    stores the number of finished epochs and no generator state.

    On a GPU the steps are replayed as CUDA graphs, one for each size of a batch (:mod:`nas.training.replay`). With drop
    path they are recorded in every epoch, since its probability changes.

    :param recorder: records the steps; by default :func:`make_recorder` makes it.
    """

    def __init__(self, config: TrainConfig, architecture: Architecture, device: str, recorder: Recorder | None = None):
        self.config = config
        self.device = torch.device(device)
        with seeded(config.seed, "weights", self.device):
            self.architecture = architecture
            self.model: Classifier = architecture.build()
        check_drop_path(self.model.network, config.drop_path)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward: nn.Module = torch.compile(self.model) if config.compile else self.model  # type: ignore[assignment]
        recorder = make_recorder(config, self.device) if recorder is None else recorder
        if self.device.type == "cuda" and has_layouts(self.model):
            self._choose_layout(recorder)
        self._replayed = None if recorder is None else Replayed(self._update, recorder, "training steps")
        in_tensor = recorder is not None or self.device.type == "cuda"  # the same arithmetic with and without graphs
        kind: Callable[..., torch.optim.SGD] = TensorRateSGD if in_tensor else partial(torch.optim.SGD, foreach=True)
        self.optimizer = kind(
            self.model.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.average = WeightAverage(self.model, config.ema, in_tensor=in_tensor) if config.ema else None
        self.schedule = make_schedule(config.schedule, config.learning_rate, config.epochs, config.milestones)
        self.augmentation = Augmentation(crop=config.crop, flip=config.flip)
        self.method = make_method(config)
        self.epochs_done = 0

    def _choose_layout(self, recorder: Recorder | None) -> None:
        """Lay the model out as is faster on this GPU, and say how."""
        config, architecture = self.config, self.architecture
        batch = min(config.batch_size, config.images or config.batch_size)
        shape = (batch, len(architecture.mean), *architecture.image_size)
        dtype = torch.bfloat16 if config.precision == "bfloat16" else None
        with seeded(config.seed, "layout", self.device):
            images = torch.rand(shape, device=self.device).contiguous(memory_format=torch.channels_last)
            passes = partial(one_step, self.model, images, dtype)
            layout, ratio = lay_out_faster(
                self.model, passes, partial(gpu_seconds, device=self.device, recorder=recorder)
            )
        other = next(each for each in LAYOUTS if each != layout)
        complain(f"memory layout {layout}: {ratio:.2f} times as fast as {other} for this network, batch and device")

    def epoch(self, data: TrainingImages, watch: Callable[[float], None] | None = None) -> EpochLoss:
        """Trains for one epoch.

        :param watch: called each time losses are read (see ``LOOK_EVERY``) with the finished share of the epoch.
        :raises TrainingStopped: a loss or a weight is not finite; the weights are unusable then.
        """
        config, epoch = self.config, self.epochs_done
        self.model.train()
        if config.drop_path:
            self.model.network.drop_path_probability = config.drop_path * epoch / config.epochs  # type: ignore[assignment]
            self.release()
        order, augmentation = (generator(config.seed, f"{name} {epoch}") for name in ("order", "augmentation"))
        noise = generator(config.seed, f"noise {epoch}", self.device)
        steps = data.steps(config.batch_size)
        total, rate = 0.0, 0.0
        right = torch.zeros((), device=self.device, dtype=torch.int64)
        unseen: list[Tensor] = []  # loss of each batch, times its size, since losses were last read
        with seeded(config.seed, f"drop path {epoch}", self.device):  # drop path draws from the global generator
            batches = data.shuffled(config.batch_size, self.augmentation, order, augmentation)
            for step, (images, labels) in enumerate(batches, start=1):
                rate = self.schedule(epoch + (step - 0.5) / steps)
                loss, logits = self.step(images, labels, noise, rate)
                right += (logits.argmax(1) == labels).sum()
                unseen.append(loss.double() * len(labels))
                if step % LOOK_EVERY[self.device.type] == 0 or step == steps:
                    for number, each in enumerate(torch.stack(unseen).tolist(), start=step - len(unseen) + 1):
                        if not math.isfinite(each):
                            raise TrainingStopped(
                                f"the loss is not finite at epoch {epoch + 1}, step {number} of {steps}"
                            )
                        total += each
                    unseen.clear()
                    if watch is not None:
                        watch(step / steps)
        self._check_weights(epoch + 1)
        self.epochs_done += 1
        return EpochLoss(total / len(data), float(right) / len(data), rate)

    def step(self, images: Tensor, labels: Tensor, noise: torch.Generator, rate: float) -> tuple[Tensor, Tensor]:
        """One optimiser step at learning rate ``rate``.

        :return: the loss before the step, and the logits ``(N, classes)`` of the images trained on.
        """
        if isinstance(self.optimizer, TensorRateSGD):
            self.optimizer.set_rate(rate)
        else:
            self.optimizer.param_groups[0]["lr"] = rate
        if self.average is not None:
            self.average.count()
        if self._replayed is None:
            return self._update(images, labels, noise=noise)
        start = self.method.start(images, noise)
        loss, logits = self._replayed(images, labels, *(() if start is None else (start,)))
        return loss, logits

    def _update(
        self, images: Tensor, labels: Tensor, start: Tensor | None = None, noise: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The part of a step that is replayed: what changes between steps reaches it through tensors only.

        The weights that autocast keeps for a step are dropped inside, so a recording casts them in every step.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            found = self.method(self.forward, images, labels, noise, start)
        self.optimizer.zero_grad(set_to_none=True)
        found.loss.backward()  # type: ignore[no-untyped-call]
        if self.config.gradient_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        return found.loss.detach(), found.logits

    def release(self) -> None:
        """Free the memory of recorded steps; the next steps are recorded anew."""
        if self._replayed is not None:
            self._replayed.forget()

    def _check_weights(self, epoch: int) -> None:
        """:raises TrainingStopped: a weight or a running statistic is not finite, as after too long a last step."""
        values = [each for each in self.model.state_dict().values() if each.is_floating_point()]
        if not bool(torch.stack([each.isfinite().all() for each in values]).all()):
            raise TrainingStopped(f"a weight is not finite after epoch {epoch}")

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """A context in which the model has the weights to evaluate: the moving average if there is one."""
        if self.average is None:
            yield self.forward
            return
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.weights)
        try:
            yield self.forward
        finally:
            self.model.load_state_dict(own)

    def weights(self) -> dict[str, Tensor]:
        """Copies on the CPU of the weights to evaluate: the moving average if there is one, else the model's own."""
        return to_cpu(self.model.state_dict() if self.average is None else self.average.weights)

    def state(self) -> dict[str, Any]:
        """The training state that :meth:`load` needs besides :meth:`weights`: epochs done, momenta, moving average."""
        momenta = [self.optimizer.state[each].get("momentum_buffer") for each in self.model.parameters()]
        average = {} if self.average is None else {"steps": self.average.steps, "own": to_cpu(self.model.state_dict())}
        return {
            "epochs": self.epochs_done,
            "momenta": [None if each is None else each.detach().cpu().clone() for each in momenta],
            "average": average,
        }

    def load(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Restore what :meth:`weights` and :meth:`state` returned.

        :raises UserError: they belong to another network, or are damaged.
        """
        try:
            average, momenta, epochs = state["average"], state["momenta"], int(state["epochs"])
            fit_weights(self.model, average["own"] if self.average is not None else weights)
            if self.average is not None:
                check_fit(self.average.weights, weights)
                self.average.load(weights, int(average["steps"]))
            for parameter, momentum in zip(self.model.parameters(), momenta, strict=True):
                if momentum is not None:
                    if momentum.shape != parameter.shape:
                        raise ValueError(f"a momentum is {tuple(momentum.shape)}, expected {tuple(parameter.shape)}")
                    self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(f"the checkpoint to go on from is damaged: {' '.join(str(error).split())}") from None
        self.epochs_done = epochs
        self.release()  # recorded steps would go on with the momenta of before


def make_recorder(config: TrainConfig, device: torch.device) -> Recorder | None:
    """What records the steps of a training; None: they are not recorded. One line says so if an option excludes it."""
    if device.type != "cuda" or not config.cuda_graphs:
        return None
    excluding = {"--compile": config.compile, "--gradient-alignment": config.gradient_alignment}
    for option, given in excluding.items():
        if given:
            complain(f"training steps run without CUDA graphs, which {option} excludes")
            return None
    return CudaRecorder(device)


def check_drop_path(network: nn.Module, probability: float) -> None:
    """:raises UserError: paths are to be dropped, and the network has none."""
    if probability and not hasattr(network, "drop_path_probability"):
        raise UserError(f"--drop-path {probability:g}: this network has no paths to drop")


def to_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the weights on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def make_method(config: TrainConfig) -> Method:
    """The training method of the configuration, with its adversary."""
    adversary = PGD(
        epsilon=config.epsilon, step_size=config.step_size or 0.0, steps=config.attack_steps or 0,
        norm=config.norm, mode=config.attack_mode,
    )  # fmt: skip
    kinds: dict[str, tuple[type[Method], dict[str, Any]]] = {
        "none": (Standard, {}),
        "pgd": (Adversarial, {}),
        "fast": (Fast, {"gradient_alignment": config.gradient_alignment}),
        "trades": (Trades, {"beta": config.trades_beta}),
        "mart": (Mart, {"beta": config.mart_beta}),
    }
    kind, own = kinds[config.method]
    return kind(adversary=adversary, label_smoothing=config.label_smoothing, auxiliary=config.auxiliary, **own)


def derived_seed(seed: int, purpose: str) -> int:
    """A seed of 63 bits, derived from ``seed`` by a hash; each ``purpose`` has its own."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, device: torch.device | None = None) -> torch.Generator:
    """A generator on ``device`` (default: the CPU) with the :func:`derived_seed` of a purpose."""
    return torch.Generator(device or "cpu").manual_seed(derived_seed(seed, purpose))


@contextmanager
def seeded(seed: int, purpose: str, device: torch.device) -> Iterator[None]:
    """A context in which torch's global generators are seeded for ``purpose``; on exit their states are restored."""
    devices = range(torch.cuda.device_count()) if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(seed, purpose))
        yield
