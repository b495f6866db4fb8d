"""Trained models in the formats of other programs: images ``(N, C, H, W)`` in [0, 1] -> ``logits``, any N.

Normalisation is inside. The networks' own convolutions, which are computed by other means on a CPU, become plain ones.
Batch norms stay as they are: runtimes fold them into convolutions when they load the file.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.models.architecture import Classifier
from nas.models.checkpoint import Checkpoint
from nas.models.safetensors_file import NAME
from search_spaces.base import SearchSpace

OPSET = 18  # of ONNX; the lowest that torch's exporter writes itself


def exported(checkpoint: Checkpoint, format: str) -> bytes:
    """The content of the file.

    :raises UserError: a package that the format needs is not installed.
    """
    if format == "safetensors":
        from nas.models.safetensors_file import safetensors_bytes

        return safetensors_bytes(checkpoint.content())
    write: dict[str, Callable[[Classifier, Tensor], bytes]] = {"onnx": _onnx, "torch_export": _torch_export}
    architecture = checkpoint.architecture
    model = checkpoint.classifier().requires_grad_(False)
    use_plain_convolutions(model)
    example = torch.zeros(2, len(architecture.mean), *architecture.image_size)  # 1 would be taken for a constant
    with torch.no_grad(), _quiet():
        return write[format](model, example)


def use_plain_convolutions(model: nn.Module) -> None:
    """Replaces, inside ``model``, each subclass of ``nn.Conv2d`` that computes the same by other means (it says
    ``computes_conv2d``) with an ``nn.Conv2d`` of the same weights.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and getattr(child, "computes_conv2d", False):
                setattr(parent, name, _plain_convolution(child))


def _plain_convolution(conv: nn.Conv2d) -> nn.Conv2d:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    with torch.device("meta"):
        plain = nn.Conv2d(**{name: getattr(conv, name) for name in names}, bias=conv.bias is not None)
    plain.weight, plain.bias = conv.weight, conv.bias
    return plain


def reader(path: Path, format: str, space: SearchSpace[Any] | None = None) -> Callable[[Tensor], Tensor] | None:
    """The model in the file, as its own runtime computes it; None where that is not installed."""
    if format == "onnx":
        return _onnx_reader(path) if find_spec("onnxruntime") else None
    if format == "torch_export":
        program: nn.Module = torch.export.load(path).module()
        return program
    from nas.models.checkpoint import load

    return load(path, space)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the exporters' progress notes are not printed."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _batched() -> dict[str, Any]:
    return {"images": {0: torch.export.Dim("batch")}}


def _torch_export(model: Classifier, example: Tensor) -> bytes:
    program = torch.export.export(model, (example,), dynamic_shapes=_batched())
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"program": NAME})
    return buffer.getvalue()


def _onnx(model: Classifier, example: Tensor) -> bytes:
    for package in ("onnx", "onnxscript"):
        if not find_spec(package):
            install = "pip install '.[export]'"
            raise UserError(f"--format onnx needs the package {package}, which is not installed: {install}")
    program = torch.onnx.export(
        model, (example,), dynamo=True, dynamic_shapes=_batched(), opset_version=OPSET, verbose=False,
        input_names=["images"], output_names=["logits"],
    )  # fmt: skip
    assert program is not None
    program.model.metadata_props["program"] = NAME
    content: bytes = program.model_proto.SerializeToString()
    return content


def _onnx_reader(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
