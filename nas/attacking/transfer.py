"""The transfer matrix: how well adversarial images made on one model deceive another.

A row for each model that the images are made on, a column for each that classifies them. Accuracies are over all images
of the set; an image that the model it is made on gets wrong anyway stays as it is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas import norms
from nas.attacking.config import COUNTS, check_counts
from nas.cli import bounds
from nas.cli.fields import check_types, option, path_option
from nas.errors import UserError
from nas.files import as_path, check_free, kind, make_folder, write

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn

    from nas.attacking.base import Attack
    from nas.models.trained import TrainedModel
    from search_spaces.base import SearchSpace

FORMAT = 1
RESULT, TABLE, PICTURE = "transfer.json", "transfer.csv", "transfer.png"


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Which models, and how the adversarial images are made."""

    model: tuple[str, ...] = option((), "NAME=PATH, a run directory or a checkpoint; repeatable, at least 2")
    attack: str = option("pgd-20", "how the images are made: as in nas.attack")
    norm: Literal["Linf", "L2"] = option("Linf", "how far an image may be changed is measured in Linf or L2")
    epsilon: str | float = option("8/255", "how far, in pixel units of [0, 1]: 8/255 or 0.03")
    samples: int | None = option(None, "number of test images, drawn class-balanced (default: all)")
    batch: int = option(64, "images attacked at a time")
    dataset: str | None = option(None, "test images (default: what the first model was trained on)")
    data_dir: str = path_option("data", "where cifar10, cifar100 and svhn are kept")
    download: bool = option(False, "fetch the data set if it is not in --data-dir")
    image_size: int | None = option(None, "resize the images to this many pixels square")
    seed: int = option(0, "seed of the choice of images and of the attack")
    device: str = option("auto", "cpu, cuda, cuda:N, or auto: cuda where there is one")
    threads: int | None = option(None, "threads of an operation on the CPU (default: torch's choice)")

    def __post_init__(self) -> None:
        check_types(self)
        object.__setattr__(self, "model", bounds.texts(self.model))
        if len(self.paths) < 2:
            raise UserError(f"--model must name at least 2 models, NAME=PATH each, got {len(self.paths)}")
        norms.check_norm(self.norm)
        norms.radius(self.epsilon, self.norm)
        check_counts(self, *COUNTS)
        bounds.seed(self.seed)

    @property
    def paths(self) -> dict[str, Path]:
        """The models' paths by name.

        :raises UserError: a value is not NAME=PATH, or two have the same name.
        """
        found: dict[str, Path] = {}
        for each in self.model:
            name, _, path = each.partition("=")
            if not name or not path:
                raise UserError(f"--model must be NAME=PATH, got '{each}'")
            if name in found:
                raise UserError(f"--model names '{name}' twice")
            found[name] = as_path("model", path)
        return found


def transfer_matrix(
    models: dict[str, nn.Module],
    images: Tensor | npt.NDArray[Any],
    labels: Tensor | npt.NDArray[Any],
    attack: Attack,
    *,
    batch: int = 64,
    seed: int = 0,
    watch: Callable[[str, int], None] | None = None,
) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """The numbers of images classified correctly: natural ones by model; adversarial ones by the model they were made
    on, then by the model that classifies them.

    :param models: by name, each images -> logits. :param images: ``(N, C, H, W)`` in [0, 1]. :param labels: ``(N,)``.
    :param watch: called after each block with the model's name and the number of images made on it so far.
    :raises UserError: a model returns logits that are not finite, or the attack or the images cannot be.
    :raises AttackFailed: the attack broke its rules or raised an error.
    """
    from nas.attacking.base import check_attacks
    from nas.attacking.crafting import adversarial, finite_logits
    from nas.attacking.evaluator import block_seed, check_model, checked_images

    given, classes = checked_images(images, labels)
    check_attacks([attack], *given.shape[2:])
    bounds.whole("batch", batch)
    bounds.seed(seed)
    for model in models.values():
        check_model(model)
    natural = dict.fromkeys(models, 0)
    matrix = {name: dict.fromkeys(models, 0) for name in models}
    for first in range(0, len(classes), batch):
        block = first, min(first + batch, len(classes))
        for source, model in models.items():
            device = next((each.device for each in model.parameters()), given.device)
            clean, truth = (each[slice(*block)].to(device) for each in (given, classes))
            made_by = f"natural, classified by {source}"
            logits = finite_logits(model, clean, seed, made_by=made_by, numbers=range(*block))
            changed, correct = clean.clone(), logits.argmax(1) == truth
            natural[source] += int(correct.sum())  # what a model gets wrong needs no attack
            changed[correct] = adversarial(model, clean[correct], truth[correct], attack, block_seed(seed, block))
            for judge, other in models.items():
                made_by = f"{attack.name} on {source}, classified by {judge}"
                logits = finite_logits(other, changed, seed, made_by=made_by, numbers=range(*block))
                matrix[source][judge] += int((logits.argmax(1) == truth).sum())
            if watch is not None:
                watch(source, block[1])
    return natural, matrix


def check_alike(models: dict[str, TrainedModel]) -> None:
    """:raises UserError: two models have other classes or another image size."""
    (first, reference), *rest = models.items()
    for name, model in rest:
        own, expected = model.checkpoint.architecture, reference.checkpoint.architecture
        if own.classes != expected.classes:
            raise UserError(
                f"models must share their classes: {name} has {len(own.classes)} ({', '.join(own.classes):.60}),"
                f" {first} has {len(expected.classes)} ({', '.join(expected.classes):.60})"
            )
        if (own.image_size, len(own.mean)) != (expected.image_size, len(expected.mean)):
            raise UserError(
                f"models must share their image size: {name} has {own.image_size}, {first} has {expected.image_size}"
            )


def _read(path: Path, space: SearchSpace[Any] | None) -> TrainedModel:
    """The model, of one of this program's spaces or of ``space``."""
    from nas.models.trained import TrainedModel

    if space is not None:
        try:
            return TrainedModel.read(path)
        except UserError:
            pass
    return TrainedModel.read(path, space)


def transfer(
    config: TransferConfig,
    out: Path,
    watch: Callable[[str, int, int], None] | None = None,
    *,
    space: SearchSpace[Any] | None = None,
) -> dict[str, Any]:
    """Makes the matrix and writes it to ``out``; returns the object of ``transfer.json``.

    :param space: the search space of the models that are not of one of this program's.
    :raises UserError: an option's value is not possible, or the models do not fit each other.
    """
    from nas.attacking.registry import get_attack
    from nas.attacking.transfer_output import picture
    from nas.device import torch_device, torch_threads
    from nas.images.data import fingerprint
    from nas.models.trained import attack_batch, images_for
    from nas.runs import environment
    from nas.runs.directory import check_result, write_json

    check_result(out / RESULT, "natural", "accuracy")
    if kind(out / RESULT) is None:
        check_free(out / TABLE, out / PICTURE)
    device = torch_device(config.device)
    models = {name: _read(path, space) for name, path in config.paths.items()}
    check_alike(models)
    first = next(iter(models.values()))
    classes = len(first.checkpoint.architecture.classes)
    attack = get_attack(config.attack, classes=classes, norm=config.norm, epsilon=config.epsilon)
    data = images_for(
        first, config.dataset, data_dir=config.data_dir, download=config.download, image_size=config.image_size
    )
    images, labels = attack_batch(data.test, config.samples, config.seed)
    make_folder(out)
    with torch_threads(config.threads):
        natural, matrix = transfer_matrix(
            {name: model.classifier().to(device) for name, model in models.items()}, images, labels, attack,
            batch=config.batch, seed=config.seed,
            watch=None if watch is None else lambda name, done: watch(name, done, len(labels)),
        )  # fmt: skip
    n = len(labels)
    result: dict[str, Any] = {
        "format": FORMAT,
        "attack": attack.name,
        "settings": [member.settings() for member in attack.members],
        "images": {"dataset": data.name, "fingerprint": fingerprint(data.test), "samples": n, "seed": config.seed},
        "models": {name: model.facts() for name, model in models.items()},
        "natural": {name: count / n for name, count in natural.items()},
        "accuracy": {made: {judge: count / n for judge, count in row.items()} for made, row in matrix.items()},
        "versions": environment.versions(("torchattacks",)),
        "hardware": environment.hardware(device),
        "git_commit": environment.git_commit(),
    }
    write_json(out / RESULT, result)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["made on", *models])
    writer.writerow(["natural", *(result["natural"][name] for name in models)])
    writer.writerows([made, *row.values()] for made, row in result["accuracy"].items())
    write(out / TABLE, text.getvalue())
    write(out / PICTURE, picture(result))
    return result
