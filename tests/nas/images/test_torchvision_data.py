"""The data sets that torchvision reads, in files made here in their published layout."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import UserError
from nas.images import data as data_module
from nas.images.data import load_data
from tests.nas.images.test_data import make_folder


@pytest.fixture
def torchvision() -> Any:
    try:
        import torchvision.datasets  # type: ignore[import-untyped, unused-ignore]
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    return torchvision


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_absent_files_say_how_to_get_them(torchvision: Any, tmp_path: Path, name: str) -> None:
    expected = f"data set '{name}' is absent or damaged in the folder '.*'; expected --download .* or --data-dir"
    with pytest.raises(UserError, match=expected):
        load_data(name, data_dir=tmp_path)


def test_a_failed_download_is_one_line(torchvision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", (tmp_path / "nowhere.tar.gz").as_uri())
    with pytest.raises(UserError, match=r"'cifar10' could not be downloaded to '.*': .*No such file") as caught:
        load_data("cifar10", data_dir=tmp_path / "data", download=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("image_size", [None, 32, 8])
def test_cifar_layout(
    torchvision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_size: int | None
) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)  # tiny files, other checksums
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (6, 2, 3072), dtype=np.uint8)  # a row is all red, green, blue
    for i, name in enumerate([f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]):
        (folder / name).write_bytes(pickle.dumps({"data": rows[i], "labels": [i, 9 - i]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    data = load_data("cifar10", data_dir=tmp_path, image_size=image_size)
    assert data.classes == tuple("abcdefghij")
    assert data.train.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert data.test.labels.tolist() == [5, 4]
    if image_size == 8:
        original = Image.fromarray(rows[5, 1].reshape(3, 32, 32).transpose(1, 2, 0))
        image = original.resize((8, 8), Image.Resampling.BILINEAR)
        assert data.train.images.shape == (10, 3, 8, 8)
        assert np.array_equal(data.test.images[1].numpy(), np.asarray(image).transpose(2, 0, 1))
    else:
        assert np.array_equal(data.train.images.numpy(), rows[:5].reshape(10, 3, 32, 32))
        assert np.array_equal(data.test.images.numpy(), rows[5].reshape(2, 3, 32, 32))


def test_svhn_layout(torchvision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat  # type: ignore[import-untyped, unused-ignore]

    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    pixels_NCHW = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    for part, numbers in (("train", [10, 1, 2, 3]), ("test", [4, 5, 10, 9])):
        content = {"X": pixels_NCHW.transpose(2, 3, 1, 0), "y": np.array(numbers, dtype=np.uint8)[:, None]}
        savemat(tmp_path / f"{part}_32x32.mat", content)
    data = load_data("svhn", data_dir=tmp_path)
    assert data.classes == tuple("0123456789")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1, 2, 3], [4, 5, 0, 9])
    assert np.array_equal(data.train.images.numpy(), pixels_NCHW)
    assert data.train.images.is_contiguous()


@pytest.fixture
def no_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torchvision that fails to import the way a wheel for another torch does."""
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    message = "operator torchvision::nms does not exist\\nsecond line"
    (package / "__init__.py").write_text(f'raise RuntimeError("{message}")\n')
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(package.parent)
    return package


def test_a_torchvision_for_another_torch_is_named(no_torchvision: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets")
    expected = (
        r"data set 'svhn' needs torchvision, whose import failed \(operator torchvision::nms does not exist\); "
        rf"expected the torchvision release that matches the installed torch {torch.__version__.replace('+', '.')}; "
        "digits and folder:PATH need no torchvision$"
    )
    with pytest.raises(UserError, match=expected):
        load_data("svhn", data_dir=folder)
    assert len(load_data("digits").test.labels) == 355
    assert len(load_data(f"folder:{folder}").train.labels) == 9


def test_importing_the_module_imports_no_torchvision() -> None:
    code = f"import sys, {data_module.__name__}; sys.exit('torchvision' in sys.modules or 'sklearn' in sys.modules)"
    root = Path(str(data_module.__file__)).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
