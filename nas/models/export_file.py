"""Writes a trained model for other programs, and checks it against the original on real images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nas.cli import bounds
from nas.cli.fields import check_types, option, path_option
from nas.errors import ExportFailed, UserError
from nas.files import as_path, check_free, read_bytes, write

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from nas.models.trained import TrainedModel
    from search_spaces.base import SearchSpace

CHECKED_IMAGES = 32
CUTS = [1, 6]  # batches of 1, 5 and 26 images show that any number works
TOLERANCE = 1e-3  # of the largest logit; runtimes sum in different orders


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which model is written in which format, and the images it is checked on."""

    run: str | None = path_option(None, "run directory whose train/best.pt is exported")
    checkpoint: str | None = path_option(None, "checkpoint file to export instead")
    format: Literal["onnx", "torch_export", "safetensors"] = option(
        "onnx", "onnx, torch_export (a program of torch.export), or safetensors (weights, which nas.load reads)"
    )
    out: str | None = path_option(None, "file to write (default: model.onnx, model.pt2 or model.safetensors beside it)")
    dataset: str | None = option(None, "images to check on (default: what the checkpoint was trained on)")
    data_dir: str = path_option("data", "where cifar10, cifar100 and svhn are kept")
    image_size: int | None = option(None, "resize the images to this many pixels square")
    json: bool = option(False, "print the result as one JSON object")

    def __post_init__(self) -> None:
        check_types(self)
        if self.image_size is not None:
            bounds.whole("image_size", self.image_size)
        if (self.run is None) == (self.checkpoint is None):
            got = "neither" if self.run is None else "both"
            raise UserError(f"expected --run RUN or --checkpoint FILE, got {got}")

    @property
    def source(self) -> tuple[str, str]:
        """The option that names the model, and its value."""
        return ("run", self.run) if self.checkpoint is None else ("checkpoint", self.checkpoint)  # type: ignore[return-value]


NAMES = {"onnx": "model.onnx", "torch_export": "model.pt2", "safetensors": "model.safetensors"}


def export(config: ExportConfig, *, space: SearchSpace[Any] | None = None) -> dict[str, Any]:
    """Writes the file, whole or not at all, and returns a description of it.

    :param space: the search space of the model, where it is not one of this program's.
    :raises UserError: an option's value is not possible, or a package is not installed.
    :raises ExportFailed: the file does not compute what the model does; it is not kept.
    """
    from nas.models.exporting import exported
    from nas.models.safetensors_file import NAME
    from nas.models.trained import TrainedModel

    model = TrainedModel.read(as_path(*config.source), space)
    out = model.path.with_name(NAMES[config.format]) if config.out is None else as_path("out", config.out)
    if config.format == "safetensors" and out.suffix != ".safetensors":
        raise UserError(f"--out must end in .safetensors, by which nas.load knows the file, got {out}")
    if NAME.encode() not in (read_bytes(out) or b""):
        check_free(out)
    images, about = _images(config, model)
    expected = _logits(model, images, about)
    content = exported(model.checkpoint, config.format)
    difference: list[float | None] = []
    write(out, content, lambda written: difference.append(_difference(written, config.format, model, images, expected)))
    return {
        "file": str(out),
        "format": config.format,
        "bytes": len(content),
        "checkpoint": str(model.path),
        "checked_on": None if difference[0] is None else about,
        "largest_difference": difference[0],
    }


def _images(config: ExportConfig, model: TrainedModel) -> tuple[Tensor, str]:
    """Images to check on, and their description; noise where no data set is at hand."""
    import torch

    from nas.models.trained import attack_batch, images_for

    architecture = model.checkpoint.architecture
    if config.dataset is not None or model.dataset is not None:
        try:
            data = images_for(
                model, config.dataset, data_dir=config.data_dir, download=False, image_size=config.image_size
            )
            images = attack_batch(data.test, min(CHECKED_IMAGES, len(data.test.labels)), seed=0)[0]
            return images, f"{len(images)} test images of {data.name}"
        except UserError:
            if config.dataset is not None:
                raise
    generator = torch.Generator().manual_seed(0)
    shape = CHECKED_IMAGES, len(architecture.mean), *architecture.image_size
    return torch.rand(shape, generator=generator), f"{CHECKED_IMAGES} images of noise (no data set at hand)"


def _logits(model: TrainedModel, images: Tensor, about: str) -> Tensor:
    """The model's logits ``(N, classes)``.

    :raises UserError: one is not finite.
    """
    import torch

    from nas.models.logits import not_finite

    with torch.no_grad():
        logits: Tensor = model.classifier()(images)
    if (found := not_finite(logits)) is not None:
        raise UserError(f"logits of {model.path} are not finite: {found[1]} for image {found[0]} of {about}")
    return logits


def _difference(path: Path, format: str, model: TrainedModel, images: Tensor, expected: Tensor) -> float | None:
    """The largest difference between logits of the file and of the model; None where the runtime is not installed.

    :raises ExportFailed: it is beyond rounding, or a logit of the file is not finite.
    """
    import torch

    from nas.models.exporting import reader
    from nas.models.logits import not_finite

    computed = reader(path, format, model.checkpoint.architecture.space)
    if computed is None:
        return None
    with torch.no_grad():
        got = torch.cat([computed(batch) for batch in images.tensor_split(CUTS) if len(batch)])
    if (found := not_finite(got)) is not None:
        raise ExportFailed(f"logits of the exported model are not finite: {found[1]} for image {found[0]}")
    difference, allowed = float((got - expected).abs().max()), TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:
        raise ExportFailed(
            f"the exported model is not the original: logits differ by {difference:.3g}, expected at most {allowed:.3g}"
        )
    return difference
