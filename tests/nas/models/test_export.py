"""Trained models for other programs: the same logits, for any number of images."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas
from nas.errors import UserError
from nas.export import main
from nas.models.architecture import Architecture
from nas.models.checkpoint import Checkpoint, read_checkpoint
from nas.models.exporting import use_plain_convolutions
from search_spaces.cells.operations import DepthwiseConv, PointwiseConv
from tests.nas.trained_networks import DIGITS, sample_images, trained_checkpoint

STANDARD = {
    "Add", "AveragePool", "BatchNormalization", "Concat", "Conv", "Div", "Gemm", "GlobalAveragePool", "Identity",
    "MaxPool", "Mul", "Pad", "ReduceMean", "Relu", "Slice", "Split", "Sub",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a trained DARTS cell."""
    run = tmp_path_factory.mktemp("trained") / "run"
    trained_checkpoint(run / "train" / "best.pt", "darts")
    return run


def untrained(path: Path, genotype: str, **changes: Any) -> Path:
    options: dict[str, Any] = {"family": "darts", "channels": 4, "layers": 3, "classes": DIGITS, "image_size": (12, 12)}
    architecture = Architecture(**{**options, "genotype": genotype, **changes})
    torch.manual_seed(0)
    Checkpoint(architecture=architecture, weights=architecture.build().state_dict()).save(path)
    return path


def test_onnx_is_plain_and_takes_any_number_of_images(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx
    import onnxruntime

    file = tmp_path / "model.onnx"
    assert main(["--run", str(trained), "--format", "onnx", "--out", str(file), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and json.loads(out)["checked_on"] == "32 test images of digits"
    assert json.loads(out)["largest_difference"] < 1e-3
    graph = onnx.load(file).graph
    assert {node.op_type for node in graph.node} <= STANDARD and {node.domain for node in graph.node} <= {""}
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for n in (1, 7):
        images = sample_images(n)[0]
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), nas.load(trained)(images), rtol=1e-3, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_convolutions_become_plain_ones_with_the_same_values() -> None:
    class Doubled(nn.Conv2d):
        """Not marked as a plain convolution, since it is none."""

        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    torch.manual_seed(0)
    fast = [PointwiseConv(4, 6), DepthwiseConv(6, 5), DepthwiseConv(6, 3, stride=2, dilation=2)]
    model = nn.Sequential(nn.Sequential(*fast), Doubled(6, 2, 1))
    images = torch.rand(2, 4, 9, 9)
    expected = model(images)
    use_plain_convolutions(model)
    assert [type(each) for each in model[0]] == [nn.Conv2d] * 3 and type(model[1]) is Doubled
    assert all(plain.weight is own.weight for plain, own in zip(model[0], fast, strict=True))
    torch.testing.assert_close(model(images), expected)


def test_torch_export(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.pt2"
    assert main(["--run", str(trained), "--format", "torch_export", "--out", str(file)]) == 0
    assert "checked on 32 test images of digits" in capsys.readouterr().out
    program = torch.export.load(file)
    assert all(str(node.target).startswith(("aten.", "<built-in")) for node in program.graph.nodes if "call" in node.op)
    for n in (1, 7):
        images = sample_images(n)[0]
        torch.testing.assert_close(program.module()(images), nas.load(trained)(images), rtol=1e-3, atol=1e-4)


def test_safetensors_can_be_loaded(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    assert main(["--run", str(trained), "--format", "safetensors", "--out", str(file)]) == 0
    images = sample_images(5)[0]
    assert torch.equal(nas.load(file)(images), nas.load(trained)(images))
    stored, original = read_checkpoint(file), read_checkpoint(trained / "train/best.pt")
    assert stored.architecture == original.architecture and stored.facts == {"dataset": "digits"}


@pytest.mark.parametrize("genotype", ["ROBUST_ZCP", "RACL"])
def test_every_operation_is_exported(genotype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = untrained(tmp_path / "model.pt", genotype)
    assert main(["--checkpoint", str(file), "--format", "torch_export"]) == 0
    assert "checked on 32 images of noise" in capsys.readouterr().out
    assert (tmp_path / "model.pt2").exists()
    assert nas.load(file)(torch.rand(2, 3, 12, 12)).shape == (2, 10)  # afterwards as before


def test_another_model_s_file_is_not_kept(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nas.models.exporting.reader", lambda *_: lambda images: torch.zeros(len(images), 10))
    words = ["--run", str(trained), "--format", "safetensors", "--out", str(tmp_path / "model.safetensors")]
    assert main(words) == 1
    assert "the exported model is not the original: logits differ by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["onnx", "torch_export", "safetensors"])
def test_logits_that_are_not_finite_are_not_exported(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = untrained(tmp_path / "nan.pt", "DARTS_V2")
    content = torch.load(path, weights_only=True)
    content["weights"]["network.classifier.bias"][2] = torch.nan
    torch.save(content, path)
    out = ["--out", str(tmp_path / "out.safetensors")]
    monkeypatch.setattr("nas.models.exporting.reader", lambda *_: None)  # also where the file could not be read back
    assert main(["--checkpoint", str(path), "--format", format, *out]) == 2
    error = capsys.readouterr().err
    assert "nan.pt are not finite: " in error and "for image 0 of 32 images of noise" in error
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_whose_logits_are_not_finite_is_not_kept(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nans = torch.full((1, 10), torch.nan)
    monkeypatch.setattr("nas.models.exporting.reader", lambda *_: lambda images: nans.repeat(len(images), 1))
    words = ["--run", str(trained), "--format", "safetensors", "--out", str(tmp_path / "model.safetensors")]
    assert main(words) == 1
    assert "logits of the exported model are not finite: nan, nan, nan, nan, ... for image 0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "package"), [("onnx", "onnx"), ("onnx", "onnxscript"), ("safetensors", "safetensors")]
)
def test_what_is_not_installed_is_named(
    format: str,
    package: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("nas.models.exporting.find_spec", lambda name: None if name == package else object())
    monkeypatch.setitem(__import__("sys").modules, package, None)
    assert main(["--run", str(trained), "--format", format, "--out", str(tmp_path / "m.safetensors")]) == 2
    err = capsys.readouterr().err
    assert f"the package {package}, which is not installed" in err and err.count("\n") == 1


def test_without_the_runtime_it_says_so(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nas.models.exporting.reader", lambda *_: None)
    assert main(["--run", str(trained), "--format", "torch_export", "--out", str(tmp_path / "m.pt2")]) == 0
    assert "not checked: onnxruntime is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--format", "onyx"], "--format must be onnx or torch_export or safetensors, got onyx"),
        (["--format", "safetensors", "--out", "model.bin"], "--out must end in .safetensors"),
        (["--out", "missing/model.onnx", "--format", "torch_export"], "missing/model.onnx cannot be written"),
        (["--dataset", "cifar"], "unknown data set 'cifar'"),
        (["--checkpoint", "other.pt"], "expected --run RUN or --checkpoint FILE, got both"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    part: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--run", str(trained), *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and part in err, err


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_safetensors_file_is_refused(share: float, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    assert main(["--run", str(trained), "--format", "safetensors", "--out", str(file)]) == 0
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(UserError, match="model.safetensors is not a safetensors file, or is truncated"):
        nas.load(file)


def test_foreign_safetensors_files_are_refused(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"program": "nas-robust", "nas_format": "1", "architecture": "{}"}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match=r"a\.safetensors is not a model of this program: its metadata are damaged"):
        nas.load(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    with pytest.raises(UserError, match="is not a model of this program"):
        nas.load(tmp_path / "b.safetensors")
