"""Trained classifiers on disk, and what is refused."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from nas.errors import UserError
from nas.models.architecture import Architecture
from nas.models.checkpoint import Checkpoint, fit_weights, read_checkpoint

CLASSES = ("cat", "dog", "owl")
SMALL = Architecture(
    family="darts", genotype="DARTS_V2", channels=2, layers=2, classes=CLASSES, image_size=(8, 8),
    mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4),
)  # fmt: skip


def stored(path: Path, architecture: Architecture = SMALL, **changes: Any) -> Path:
    torch.manual_seed(0)
    Checkpoint(architecture=architecture, weights=architecture.build().state_dict(), **changes).save(path)
    return path


@pytest.mark.parametrize(("name", "millions"), [("resnet18", 11.17), ("densenet121", 6.96), ("wrn_28_10", 36.48)])
def test_classic_networks_have_their_published_size(name: str, millions: float) -> None:
    cost = Architecture(family=name, classes=tuple("0123456789")).cost()
    assert round(cost.params / 1e6, 2) == millions
    assert cost.macs > 5e8


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_classic_networks_classify(name: str) -> None:
    model = Architecture(family=name, classes=CLASSES, image_size=(16, 16)).build().eval()
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 3)


def test_cost_of_a_cell_is_the_space_s() -> None:
    architecture = Architecture(
        family="darts", genotype="ROBUST_ZCP", channels=36, layers=20, classes=tuple("0123456789")
    )
    assert architecture.cost().params == 3_413_278


def test_normalisation_is_inside() -> None:
    model = SMALL.build().eval()
    images = torch.rand(2, 3, 8, 8)
    mean, std = torch.tensor(SMALL.mean).view(3, 1, 1), torch.tensor(SMALL.std).view(3, 1, 1)
    assert torch.equal(model(images), model.network((images - mean) / std))


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    stored(tmp_path / "train/best.pt", facts={"epochs": 3}, training={"epoch": 1})
    checkpoint = read_checkpoint(tmp_path / "train/best.pt")
    assert (
        checkpoint.architecture == SMALL and checkpoint.facts == {"epochs": 3} and checkpoint.training == {"epoch": 1}
    )
    before = torch.random.get_rng_state()
    model = nas.load(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(0)
    images = torch.rand(2, 3, 8, 8)
    torch.manual_seed(0)
    assert not model.training and torch.equal(model(images), SMALL.build().eval()(images))
    assert os.listdir(tmp_path / "train") == ["best.pt"]


EMPTY = {"format": 1, "weights": {}, "facts": {}, "training": {}}


def doubled(times: int) -> list[Any]:
    """Lists of two entries inside each other, which are the same list: written, there are ``2 ** times`` values."""
    value: list[Any] = []
    for _ in range(times):
        value = [value, value]
    return value


class _Touch:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("wrapped", [False, True], ids=["pickle", "torch.save"])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    wrapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    if wrapped:
        torch.save({"format": 1, "weights": _Touch()}, path)
    else:
        path.write_bytes(pickle.dumps(_Touch()))
    with pytest.raises(UserError, match=r"evil.pt is (refused|not a checkpoint)"):
        nas.load(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(share: float, tmp_path: Path) -> None:
    path = stored(tmp_path / "model.pt")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"model.pt is (not a checkpoint, or is truncated|refused)"):
        nas.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "its format is list, expected 1"),
        ({"format": 7}, "its format is 7, expected 1"),
        (EMPTY, "not an architecture: got NoneType"),
        ({**EMPTY, "weights": {"a": 1}}, r"damaged: weights\['a'\] 1, expected a dense tensor"),
        ({**EMPTY, "weights": {"a": torch.ones(2, device="meta")}}, "expected a dense tensor"),
        ({**EMPTY, "weights": {"a": torch.ones(2, dtype=torch.complex64)}}, "expected a dense tensor"),
        ({**EMPTY, "weights": {"a": torch.eye(2).to_sparse()}}, "expected a dense tensor|is not a checkpoint"),
        ({**EMPTY, "weights": {"a": torch.zeros(1).expand(10**12)}}, "expected a dense tensor"),
        ({**EMPTY, "facts": {"history": [{"epoch": 1, "loss": "low"}]}}, r"history\[0\].loss 'low', expected a finite"),
        ({**EMPTY, "facts": {"a": torch.ones(2)}}, "facts.a tensor.*, expected a plain value"),
        ({**EMPTY, "facts": {"dataset": None}}, "facts.dataset None, expected a text"),
        ({**EMPTY, "facts": {"a": 10**400}}, "facts.a .*, expected a plain value"),
        ({**EMPTY, "facts": {"a": doubled(40)}}, "facts holds more than 30 lists inside each other"),
        ({**EMPTY, "facts": {"a": doubled(29)}}, "facts holds more than 1,000,000 values"),
        ({**EMPTY, "training": {"momenta": [3]}}, r"training.momenta\[0\] 3, expected a dense tensor"),
        ({**EMPTY, "training": {"epochs": -1}}, "training.epochs -1, expected a whole number from 0"),
        ({**EMPTY, "architecture": {**SMALL.to_json(), "channels": 10**12}}, "channels|holds 0 weights"),
        ({**EMPTY, "architecture": {**SMALL.to_json(), "image_size": [8, float("nan")]}}, r"image_size\[1\] nan"),
        ({**EMPTY, "architecture": {**SMALL.to_json(), "std": [1.0, 1.0, float("inf")]}}, r"std\[2\] inf, expected"),
        ({**EMPTY, "architecture": {**SMALL.to_json(), "mean": 3}}, "mean 3, expected a list"),
        ({"format": torch.ones(2)}, "its format is tensor"),
    ],
)
def test_other_files_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    (tmp_path / "model.pt").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=message):
        nas.load(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 10**12}, "channels must be at most|the checkpoint holds .* weights, expected at least"),
        ({"layers": 10**5}, "layers must be at most|the checkpoint holds .* weights, expected at least"),
        ({"classes": ["a", "b"] * 200_000}, "classes must be at most|the checkpoint holds .*, expected at least"),
    ],
)
def test_a_network_beyond_all_bounds_is_not_built(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path / "model.pt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "architecture": {**content["architecture"], **changes}}, path)
    monkeypatch.setattr(Architecture, "network", lambda self: pytest.fail("it was built"))
    with pytest.raises(UserError, match=message):
        nas.load(path)


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "model.pt")
    with zipfile.ZipFile(path) as parts:
        contents = {part.filename: parts.read(part) for part in parts.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in contents.items():
            packed.writestr(name, content)
    with pytest.raises(UserError, match="is not a checkpoint, or is truncated"):
        nas.load(path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"network.stem.conv.weight is \(6, 3, 3, 3\), expected \(12, 3, 3, 3\)"):
        wider = Architecture(
            family="darts", genotype="DARTS_V2", channels=4, layers=2, classes=CLASSES, image_size=(8, 8)
        )
        fit_weights(wider.build(), SMALL.build().state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "resnet81"}, "unknown model 'resnet81'; did you mean resnet18"),
        ({"genotype": "DARTS_V3"}, "DARTS_V2"),
        ({"classes": ("cat",)}, "at least 2 classes, got 1"),
        ({"std": (1.0, 0.0, 1.0)}, "a positive std"),
        ({"channels": 0}, "channels must be at least 1"),
    ],
)
def test_architectures_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Architecture(**{"family": "darts", "genotype": "DARTS_V2", "classes": CLASSES, **changes})


@pytest.mark.parametrize("path", ["nothing.pt", "empty"])
def test_where_there_is_no_model(path: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"does not exist|holds no trained model"):
        nas.load(tmp_path / path)
