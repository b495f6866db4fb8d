"""Data sets in memory, and the labelled batches on which proxies score networks.

Images are uint8 ``(N, C, H, W)`` in 0..255; nothing is normalised here. ``digits`` comes with scikit-learn;
``cifar10``, ``cifar100``, ``svhn`` are read through torchvision; ``folder:PATH`` is any folder with files
``PATH/{train,test}/<class>/<image>``. Images are resized with Pillow's bilinear filter, which averages over source
pixels when it makes an image smaller.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from nas.errors import UserError, unknown
from nas.files import as_path, kind
from nas.images.decoding import read_images
from nas.images.memory import check_memory
from nas.images.torchvision_data import TORCHVISION_CLASSES, read_torchvision

DATASETS = ("digits", *TORCHVISION_CLASSES, "folder:PATH")
DIGITS_SIZE = 32  # the image size for which the search spaces are designed; the original digits have 8x8 pixels
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
LAYOUT = "train/<class>/<image> and test/<class>/<image>"
MOST_SIZE = 65_535  # height and width in pixels: the most that a JPEG file can have


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Labelled images.

    ``images`` are uint8 ``(N, C, H, W)`` in 0..255; ``labels`` are int64 ``(N,)``, indices into ``classes``.

    :raises ValueError: types, shapes or labels are not as stated.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            got = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise ValueError(f"images must be torch.uint8 (N, C, H, W), got {got}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            got = f"{self.labels.dtype} {tuple(self.labels.shape)}"
            raise ValueError(f"labels must be torch.int64 ({len(self.images)},), got {got}")
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            got = f"{int(self.labels.min())}..{int(self.labels.max())}"
            raise ValueError(f"labels must index the {len(self.classes)} classes, got {got}")


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set. Each split is read once, when it is first used; ``load`` takes the name ``train`` or ``test``."""

    name: str
    classes: tuple[str, ...]
    load: Callable[[str], ImageSplit] = field(repr=False)

    @cached_property
    def train(self) -> ImageSplit:
        """The training images; :raises UserError: they cannot be read."""
        return self.load("train")

    @cached_property
    def test(self) -> ImageSplit:
        """The test images; :raises UserError: they cannot be read."""
        return self.load("test")


def load_data(
    name: str, *, data_dir: str | Path | None = None, download: bool = False, image_size: int | None = None
) -> ImageData:
    """The data set called ``name``, one of ``DATASETS``.

    :param data_dir: folder with the files of the torchvision data sets, or to download them to; by default ``data``.
    :param download: download the files of a torchvision data set if they are absent.
    :param image_size: height and width in pixels to which every image is resized. Default: 32 for ``digits``; images
        of other data sets keep their size.
    :raises UserError: unknown name; files absent or not in the expected layout.
    """
    if image_size is not None and not 1 <= image_size <= MOST_SIZE:
        raise UserError(f"image size must be from 1 to {MOST_SIZE:,} pixels, got {image_size}")
    if name == "digits":
        classes = tuple(str(digit) for digit in range(10))
        return ImageData(name, classes, partial(_digits_split, classes, image_size or DIGITS_SIZE))
    if name in TORCHVISION_CLASSES:
        return _torchvision_data(
            name, as_path("data_dir", "data" if data_dir is None else data_dir), download, image_size
        )
    if name.startswith("folder:"):
        return _folder_data(name, image_size)
    raise unknown("data set", name, DATASETS)


def fingerprint(split: ImageSplit) -> str:
    """First 16 hexadecimal digits of the SHA-256 of pixels, labels and class names; does not depend on the machine.

    Exception: another JPEG library may decode JPEG files to slightly different pixels, so the fingerprint differs.
    """
    header = json.dumps({"shape": list(split.images.shape), "classes": list(split.classes)})
    digest = hashlib.sha256(header.encode())
    digest.update(split.images.cpu().contiguous().reshape(-1).numpy().data)
    digest.update(split.labels.cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def probe_batch(split: ImageSplit, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """``n`` distinct images, float32 ``(n, C, H, W)`` in [0, 1], and their labels ``(n,)``, drawn class-balanced.

    The K classes take turns, one image each, in an order drawn from ``seed``. Each class therefore has ``n // K`` or
    ``n // K + 1`` images, and with the same seed the batch for a smaller ``n`` is a prefix of the batch for a larger.

    :raises UserError: ``n`` below 1, ``seed`` below 0, or too few images of a class.
    """
    if n < 1:
        raise UserError(f"probe batch must have at least 1 image, got {n}")
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")
    classes, pools = _pools(split, seed)
    limits = [len(pool) * len(pools) + turn for turn, pool in enumerate(pools)]  # largest n before a class runs out
    scarce = int(np.argmin(limits))
    if n > limits[scarce]:
        need = n // len(pools) + (scarce < n % len(pools))
        raise UserError(
            f"a balanced probe batch of {n} images needs {need} of class '{split.classes[classes[scarce]]}', "
            f"got {len(pools[scarce])}; expected a batch of at most {limits[scarce]}"
        )
    chosen = _in_turns(pools)[:n]
    return split.images[chosen].to(torch.float32) / 255, split.labels[chosen]


def balanced_order(split: ImageSplit, seed: int) -> Tensor:
    """Indices of all images ``(N,)`` in the order of :func:`probe_batch`; a class without images left is skipped."""
    return _in_turns(_pools(split, seed)[1])


def _pools(split: ImageSplit, seed: int) -> tuple[Sequence[int], list[npt.NDArray[np.int64]]]:
    """The classes in a random order, and for each of them the indices of its images in a random order."""
    rng = np.random.default_rng(seed)
    labels = split.labels.cpu().numpy()
    classes = rng.permutation(len(split.classes)).tolist()
    return classes, [rng.permutation(np.flatnonzero(labels == label)) for label in classes]


def _in_turns(pools: Sequence[npt.NDArray[np.int64]]) -> Tensor:
    turns = [np.arange(len(pool)) * len(pools) + turn for turn, pool in enumerate(pools)]
    return torch.from_numpy(np.concatenate(pools)[np.argsort(np.concatenate(turns))])


def _digits_split(classes: tuple[str, ...], image_size: int, part: str) -> ImageSplit:
    """The 1,797 digits of scikit-learn; the last fifth of each class, in the file's order, is the test split."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped, import-not-found, unused-ignore]

    digits = load_digits()
    size = f"{image_size}x{image_size} pixels"
    check_memory(f"digits at {size}", 5 * len(digits.target) * image_size**2)  # grey twice, then RGB
    members = [np.flatnonzero(digits.target == label) for label in range(len(classes))]
    cuts = [len(of_class) - len(of_class) // 5 for of_class in members]
    halves = [m[:cut] if part == "train" else m[cut:] for m, cut in zip(members, cuts, strict=True)]
    chosen = np.sort(np.concatenate(halves))
    pixels_NHW = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    grey_NHW = np.stack([_resize(pixels_HW, image_size) for pixels_HW in pixels_NHW])
    images = torch.from_numpy(np.repeat(grey_NHW[:, None], 3, axis=1))
    return ImageSplit(images, torch.from_numpy(digits.target[chosen].astype(np.int64)), classes)


def _torchvision_data(name: str, data_dir: Path, download: bool, image_size: int | None) -> ImageData:
    def read(part: str) -> ImageSplit:
        images, labels, classes = read_torchvision(name, part, data_dir, download)
        if image_size is not None and images.shape[2:] != (image_size, image_size):
            what = f"{len(images):,} images of {name} at {image_size}x{image_size} pixels"
            check_memory(what, 9 * len(images) * image_size**2)  # three copies of RGB while they are resized
            resized = [_resize(pixels, image_size) for pixels in images.transpose(0, 2, 3, 1)]
            images = np.ascontiguousarray(np.stack(resized).transpose(0, 3, 1, 2))
        return ImageSplit(torch.from_numpy(images), torch.from_numpy(labels), classes)

    test = read("test")  # the smaller split: shows early whether the files exist, and gives the class names
    return ImageData(name, test.classes, lambda part: test if part == "test" else read(part))


def _resize(pixels: npt.NDArray[np.uint8], image_size: int) -> npt.NDArray[np.uint8]:
    """One image ``(H, W)`` or ``(H, W, 3)``, resized to ``image_size`` x ``image_size`` pixels."""
    return np.asarray(Image.fromarray(pixels).resize((image_size, image_size), Image.Resampling.BILINEAR))


def _folder_data(name: str, image_size: int | None) -> ImageData:
    path = name.removeprefix("folder:")
    root = as_path("dataset", path or ".")
    if not path or kind(root) != "folder":
        raise UserError(f"data set '{name}' names no folder, expected folder:PATH with {LAYOUT} in it")
    classes = _class_names(root / "train")
    if len(classes) < 2:
        got = f"only '{classes[0]}'" if classes else "none"
        raise UserError(f"'{root / 'train'}' must hold a folder for each of at least 2 classes, got {got}")
    if kind(root / "test") == "folder":  # if absent, it is an error only when used: a search needs training images only
        _check_same_classes(root, classes)
    return ImageData(name, classes, partial(_folder_split, root, classes, image_size))


def _folder_split(root: Path, classes: tuple[str, ...], image_size: int | None, part: str) -> ImageSplit:
    if part == "test":
        _check_same_classes(root, classes)
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        folder = root / part / name
        files = [e.path for e in _visible(folder) if e.name.lower().endswith(EXTENSIONS) and e.is_file()]
        if not files:
            raise UserError(f"class '{name}' has no images in '{folder}', expected files *{', *'.join(EXTENSIONS)}")
        paths += files
        labels += [label] * len(files)
    return ImageSplit(read_images(paths, image_size), torch.tensor(labels), classes)


def _check_same_classes(root: Path, classes: tuple[str, ...]) -> None:
    """:raises UserError: the test folder is absent, or its classes are not ``classes``, those of the train folder."""
    test = _class_names(root / "test")
    only_train = ", ".join(f"'{name}'" for name in classes if name not in test)
    only_test = ", ".join(f"'{name}'" for name in test if name not in classes)
    if only_train or only_test:
        got = " and ".join(f"{n} only in {p}" for n, p in ((only_train, "train"), (only_test, "test")) if n)
        raise UserError(f"train and test in '{root}' must have the same classes, got {got}")


def _class_names(folder: Path) -> tuple[str, ...]:
    if kind(folder) != "folder":
        raise UserError(f"'{folder.parent}' has no folder '{folder.name}', expected {LAYOUT} in it")
    return tuple(entry.name for entry in _visible(folder) if entry.is_dir())


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of ``folder`` that are not hidden, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot list the folder '{folder}': {error.strerror}") from error
