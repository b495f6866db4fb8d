"""Data sets and probe batches, on real files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import UserError
from nas.images import decoding, memory
from nas.images.data import ImageData, ImageSplit, fingerprint, load_data
from tests.nas.splits import split_of

CLASSES = ("cat", "dog", "owl")


def picture(index: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """A colour image (W, H) that ``index`` determines."""
    return Image.fromarray(np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def make_folder(root: Path, classes: tuple[str, ...] = CLASSES, per_class: int = 3) -> Path:
    for part_index, part in enumerate(("train", "test")):
        for label, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(per_class):
                picture(part_index * 1000 + label * 100 + i).save(folder / f"{i:03d}.png")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "pets")


def test_digits_are_grey_in_three_channels(digits: ImageData) -> None:
    assert digits.name == "digits"
    assert digits.classes == tuple("0123456789") == digits.train.classes
    assert len(digits.train.labels) + len(digits.test.labels) == 1797
    for split in (digits.train, digits.test):
        assert split.images.shape == (len(split.labels), 3, 32, 32)
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        assert torch.equal(split.images[:, 0], split.images[:, 2])
        assert (int(split.images.min()), int(split.images.max())) == (0, 255)


def test_last_fifth_of_every_digit_is_the_test_part() -> None:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

    original = load_digits()
    small = load_data("digits", image_size=8)
    train, test = small.train, small.test
    for digit in range(10):
        members = np.rint(original.images[original.target == digit] * 255 / 16)
        held_out = len(members) // 5
        assert np.array_equal(train.images[train.labels == digit][:, 0].numpy(), members[:-held_out])
        assert np.array_equal(test.images[test.labels == digit][:, 0].numpy(), members[-held_out:])


def test_digits_never_change(digits: ImageData) -> None:
    assert fingerprint(digits.train) == "3c05d8c7cc820332"
    assert fingerprint(digits.test) == "58fbc77e1ff6751e"


def test_splits_are_read_on_first_use_and_once(folder: Path) -> None:
    data = load_data(f"folder:{folder}")
    train = data.train
    shutil.rmtree(folder)
    assert data.train is train
    with pytest.raises(UserError):
        _ = data.test


def test_folder_keeps_pixels_and_sorts_classes_and_files(tmp_path: Path) -> None:
    root = make_folder(tmp_path, classes=("dog", "cat"), per_class=150)  # more than one chunk
    data = load_data(f"folder:{root}")
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0] * 150 + [1] * 150
    paths = [root / "train" / name / f"{i:03d}.png" for name in data.classes for i in range(150)]
    expected = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)
    assert np.array_equal(data.train.images.numpy(), expected)
    assert data.train.images.is_contiguous()
    assert not torch.equal(data.train.images, data.test.images)


def test_hidden_and_other_files_are_ignored(folder: Path) -> None:
    before = fingerprint(load_data(f"folder:{folder}").train)
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "README").write_text("pets")
    (folder / "train" / "cat" / ".000.png").write_bytes(b"")
    (folder / "train" / "cat" / "notes.txt").write_text("cats")
    (folder / "train" / "cat" / "folder.png").mkdir()
    assert fingerprint(load_data(f"folder:{folder}").train) == before


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_eight_bit_mode_becomes_rgb(folder: Path, mode: str) -> None:
    path = folder / "train" / "cat" / ("000.tiff" if mode == "CMYK" else "000.png")
    (folder / "train" / "cat" / "000.png").unlink()
    image = picture(5).convert(mode)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    if mode == "P":
        image.info["transparency"] = bytes(range(200))  # saved with the image; its colours stay as they are
    image.save(path)
    assert np.array_equal(load_data(f"folder:{folder}").train.images[0].numpy(), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".bmp", ".ppm", ".webp", ".tif"])
def test_usual_image_formats(folder: Path, suffix: str) -> None:
    path = folder / "train" / "cat" / f"000{suffix}"
    (folder / "train" / "cat" / "000.png").unlink()
    picture(5).save(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(load_data(f"folder:{folder}").train.images[0].numpy(), expected)


def test_image_size_resizes_only_what_differs(folder: Path) -> None:
    picture(5, (16, 12)).save(folder / "train" / "cat" / "000.png")
    own = load_data(f"folder:{folder}", image_size=8).train.images
    assert np.array_equal(own[1].numpy(), np.asarray(picture(1)).transpose(2, 0, 1))
    expected = np.asarray(picture(5, (16, 12)).resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(own[0].numpy(), expected)
    assert load_data(f"folder:{folder}", image_size=5).train.images.shape == (9, 3, 5, 5)


def test_sizes_that_differ_name_the_first_image(folder: Path) -> None:
    picture(5, (9, 8)).save(folder / "train" / "dog" / "001.png")
    picture(5, (7, 8)).save(folder / "train" / "owl" / "000.png")
    expected = r"dog/001\.png' has 9x8 pixels, expected 8x8 like '.*cat/000\.png'; --image-size N resizes"
    with pytest.raises(UserError, match=expected):
        _ = load_data(f"folder:{folder}").train


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "got no image data, expected one of JPEG, PNG"),
        (b"no image", "got no image data, expected one of JPEG, PNG"),
        ("truncated", r"truncated.*; expected an intact image file"),
    ],
)
@pytest.mark.parametrize("name", ["000.jpg", "100.jpg"])
def test_a_corrupt_image_is_named(folder: Path, content: bytes | str, expected: str, name: str) -> None:
    path = folder / "train" / "cat" / name
    if isinstance(content, str):
        picture(5, (64, 64)).save(path)
        content = path.read_bytes()[:-500]
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"cannot read image '.*train/cat/{name}': .*{expected}") as caught:
        _ = load_data(f"folder:{folder}", image_size=8).train
    assert "\n" not in str(caught.value)


def test_sixteen_bit_images_are_not_clipped_silently(folder: Path) -> None:
    Image.fromarray(np.full((8, 8), 1000, dtype=np.uint16)).save(folder / "train" / "cat" / "000.png")
    with pytest.raises(UserError, match=r"cat/000\.png' has pixels of mode 'I;16', expected 8 bits a channel"):
        _ = load_data(f"folder:{folder}").train


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar", r"did you mean cifar10 or cifar100\? expected one of cifar10, cifar100, digits, folder:PATH, svhn$"),
        ("mnist", "unknown data set 'mnist'; .*digits"),
        ("folder:", "data set 'folder:' names no folder, expected folder:PATH with train/<class>/<image>"),
        ("folder:/no/such", "data set 'folder:/no/such' names no folder, expected folder:PATH"),
    ],
)
def test_names_that_are_no_data_set(name: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_data(name)


@pytest.mark.parametrize("size", [0, -32, 65_536, 1_000_000, 10**400])
def test_image_sizes_that_cannot_be(size: int, folder: Path) -> None:
    for name in ("digits", f"folder:{folder}"):
        with pytest.raises(UserError, match=f"image size must be from 1 to 65,535 pixels, got {size}"):
            load_data(name, image_size=size)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^digits at 60000x60000 pixels would take 30,12\d\.\d GiB of memory, got "):
        _ = load_data("digits", image_size=60_000).train
    monkeypatch.setattr(memory, "available_bytes", lambda: 9 * 3 * 64 * 64)
    assert load_data(f"folder:{folder}", image_size=64).train.images.shape == (9, 3, 64, 64)
    decoded: list[str] = []
    monkeypatch.setattr(decoding, "_read_image", lambda path, *_, **__: decoded.append(path))
    with pytest.raises(UserError, match="9 images of 65x65 pixels would take 0.0 GiB of memory, got 0.0 GiB available"):
        _ = load_data(f"folder:{folder}", image_size=65).train
    monkeypatch.setattr(memory, "available_bytes", lambda: 9 * 3 * 8 * 8 - 1)
    with pytest.raises(UserError, match="9 images of 8x8 pixels would take"):
        _ = load_data(f"folder:{folder}").train
    assert not decoded


@pytest.mark.parametrize("image_size", [None, 8])
@pytest.mark.parametrize("name", ["000.png", "001.png"])
def test_one_image_among_small_ones_that_is_too_large_to_decode(
    folder: Path, image_size: int | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (12_000, 12_000)).save(folder / "train" / "cat" / name)
    monkeypatch.setattr(Image.Image, "convert", None)  # nothing is decoded
    with pytest.raises(UserError, match=rf"cat/{name}' has 12000x12000 pixels, which are decoded at once, expected at"):
        _ = load_data(f"folder:{folder}", image_size=image_size).train


def test_folder_without_train(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no folder 'train', expected train/<class>/<image> and test/"):
        load_data(f"folder:{tmp_path}")


def test_folder_needs_two_classes(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="train' must hold a folder for each of at least 2 classes, got none"):
        load_data(f"folder:{tmp_path}")
    (tmp_path / "train" / "cat").mkdir()
    with pytest.raises(UserError, match="at least 2 classes, got only 'cat'"):
        load_data(f"folder:{tmp_path}")


@pytest.mark.parametrize("part", ["train", "test"])
def test_class_without_images(folder: Path, part: str) -> None:
    for path in (folder / part / "dog").iterdir():
        path.rename(path.with_suffix(".npy"))
    with pytest.raises(UserError, match=rf"class 'dog' has no images in '.*{part}/dog', expected files \*\.jpg, "):
        getattr(load_data(f"folder:{folder}"), part)


def test_train_and_test_must_have_the_same_classes(folder: Path) -> None:
    (folder / "test" / "dog").rename(folder / "test" / "elk")
    with pytest.raises(UserError, match="must have the same classes, got 'dog' only in train and 'elk' only in test"):
        load_data(f"folder:{folder}")
    shutil.rmtree(folder / "test" / "elk")
    with pytest.raises(UserError, match=r"must have the same classes, got 'dog' only in train$"):
        load_data(f"folder:{folder}")


def test_an_absent_test_folder_is_missed_on_use(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    data = load_data(f"folder:{folder}")
    assert len(data.train.labels) == 9
    with pytest.raises(UserError, match="has no folder 'test', expected train/"):
        _ = data.test


def test_fingerprint_is_that_of_the_content(folder: Path, tmp_path: Path) -> None:
    split = load_data(f"folder:{folder}").train
    copy = load_data(f"folder:{shutil.copytree(folder, tmp_path / 'copy')}").train
    assert fingerprint(split) == fingerprint(split) == fingerprint(copy)
    assert len(fingerprint(split)) == 16
    pixel, labels = split.images.clone(), split.labels.clone()
    pixel[4, 1, 2, 3] ^= 1
    labels[4] = 2 - labels[4] // 2
    reshaped = split.images.reshape(9, 3, 4, 16)
    others = [
        ImageSplit(pixel, split.labels, split.classes),
        ImageSplit(split.images, labels, split.classes),
        ImageSplit(split.images, split.labels, ("cat", "dog", "elk")),
        ImageSplit(reshaped, split.labels, split.classes),
    ]
    assert len({fingerprint(split), *map(fingerprint, others)}) == 5


def test_fingerprint_sees_through_the_memory_layout() -> None:
    split = split_of(3, 3)
    images = split.images.contiguous(memory_format=torch.channels_last)
    assert fingerprint(ImageSplit(images, split.labels, split.classes)) == fingerprint(split)


def test_fingerprint_is_the_same_on_every_machine() -> None:
    assert fingerprint(split_of(2, 2)) == "667d8aa0ea5b7bef"


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), r"torch.uint8 \(N, C, H, W\), got torch.float32"),
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"got torch.uint8 \(2, 3\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"\(2,\), got .* \(3,\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2), "torch.int64 .* got torch.float32"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 2]), r"index the 2 classes, got 0\.\.2"),
    ],
)
def test_a_split_checks_its_tensors(images: torch.Tensor, labels: torch.Tensor, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        ImageSplit(images, labels, ("a", "b"))
