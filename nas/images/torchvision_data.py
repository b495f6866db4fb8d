"""CIFAR-10, CIFAR-100 and SVHN, read through torchvision.

Only this module imports torchvision, and only when one of these data sets is read: a torchvision that was built for
another torch fails on import, and nothing else should fail because of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nas.errors import UserError

TORCHVISION_CLASSES = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN"}


def read_torchvision(
    name: str, part: str, data_dir: Path, download: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], tuple[str, ...]]:
    """Images ``(N, 3, 32, 32)`` in 0..255, labels ``(N,)`` and class names of the split ``part``, train or test.

    :raises UserError: torchvision cannot be imported; the files are absent or damaged; the download failed.
    """
    factory = getattr(_import_datasets(name), TORCHVISION_CLASSES[name])
    choice = {"split": part} if name == "svhn" else {"train": part == "train"}
    try:
        dataset = factory(root=str(data_dir), download=download, **choice)
    except (RuntimeError, OSError) as error:
        if download:
            raise UserError(f"data set '{name}' could not be downloaded to '{data_dir}': {error}") from error
        raise UserError(
            f"data set '{name}' is absent or damaged in the folder '{data_dir}'; "
            "expected --download to fetch it, or --data-dir with the folder that holds it"
        ) from error
    if name == "svhn":
        images, labels, classes = dataset.data, dataset.labels, [str(digit) for digit in range(10)]
    else:
        images, labels, classes = dataset.data.transpose(0, 3, 1, 2), dataset.targets, dataset.classes
    return np.ascontiguousarray(images, dtype=np.uint8), np.array(labels, dtype=np.int64), tuple(classes)


def _import_datasets(name: str) -> Any:
    try:
        from torchvision import datasets  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except (ImportError, RuntimeError, OSError, AttributeError) as error:  # a version mismatch may raise any of them
        cause = str(error).partition("\n")[0]
        raise UserError(
            f"data set '{name}' needs torchvision, whose import failed ({cause}); expected the torchvision release "
            f"that matches the installed torch {torch.__version__}; digits and folder:PATH need no torchvision"
        ) from error
    return datasets
