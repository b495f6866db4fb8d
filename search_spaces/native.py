"""What torch computes slowly on a CPU, in C (``native.c``): built once by the machine's C compiler, or done without.

The library is built when it is first asked for, in a second or two, and kept in the user's cache folder
(``XDG_CACHE_HOME``, or ``~/.cache``) under a name that holds the source, the compiler and the processor. Without a
compiler, or with ``NAS_NATIVE=0`` in the environment, :func:`library` is None and torch's own operations serve:
the same values up to rounding, in more time. :func:`description` says which of both it is.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
FUNCTIONS = ("depthwise", "depthwise_by_weight", "pointwise", "pointwise_gradients", "separable", "separable_gradients")
#: lines of /proc/cpuinfo that tell processors apart
PROCESSOR = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU implementer", "CPU part", "Features")
WIDEST = 7  # kernel
BUILD_SECONDS = 60
LANES = 16  # what the functions for separable convolutions take the channels a multiple of
_building = threading.Lock()


class Shape(ctypes.Structure):
    """An image batch and a kernel, as ``native.c`` has them."""

    _fields_ = [(name, ctypes.c_long) for name in ("n", "h", "w", "c", "k", "dilation", "stride")]


class Library:
    """The functions, on float32 images ``(N, C, H, W)`` in channels_last and weights ``(C, 1, k, k)``."""

    def __init__(self, path: Path, built_by: str):
        self.built_by = built_by
        self._functions = ctypes.CDLL(str(path))
        self._functions.scratch_floats.restype = ctypes.c_long
        for name in FUNCTIONS:  # one that is missing shows at once
            getattr(self._functions, name).restype = None
        self._of_thread = threading.local()

    def depthwise(self, x: Tensor, weight: Tensor, dilation: int, stride: int, *, turned: bool = False) -> Tensor:
        """The convolution, padded by ``dilation (k // 2)``; with the kernels turned round its gradient, at stride 1."""
        shape, x = _shape(x, weight, dilation, stride), _rows(x)
        out = x.new_empty(shape.n, (shape.h - 1) // stride + 1, (shape.w - 1) // stride + 1, shape.c)
        self._call("depthwise", shape, x, weight.contiguous(), int(turned), out)
        return out.permute(0, 3, 1, 2)

    def depthwise_by_weight(self, gradient: Tensor, x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
        """The gradient ``(C, 1, k, k)`` by the weight."""
        out = weight.new_empty(weight.shape)
        self._call("depthwise_by_weight", _shape(x, weight, dilation, stride), _rows(x), _rows(gradient), out)
        return out

    def pointwise(self, x: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor:
        """``(rows, O)``: rows ``(rows, C)`` by a weight ``(O, C, 1, 1)``, plus as in :meth:`separable`."""
        out, bias, add = _output_and_bias(x, len(x), len(weight), plus)
        self._call("pointwise", _of_rows(x), _long(len(weight)), x, weight.contiguous(), bias, add, out)
        return out

    def pointwise_gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, into: Tensor | None, wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Its gradients by x, added to ``into`` if that is given, and by the weight, if it is wanted."""
        by_x = torch.empty_like(x) if into is None else into
        by_weight = weight.new_empty(weight.shape) if wanted else None
        gradient, row = _with_rows(gradient)
        self._call(
            "pointwise_gradients", _of_rows(x), _long(len(weight)), x, gradient, row, weight.contiguous(), by_x,
            int(into is not None), by_weight,
        )  # fmt: skip
        return by_x, by_weight

    def separable(
        self, x: Tensor, weight: Tensor, pointwise: Tensor, dilation: int, stride: int, plus: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A depthwise and a pointwise convolution, weight ``(O, C, 1, 1)``: what is between them, and the output.

        The output is ``(N H' W', O)``, plus a row ``(O,)``, or plus a matrix, which is then overwritten.
        """
        shape, x = _shape(x, weight, dilation, stride), _rows(x)
        size = shape.n, (shape.h - 1) // stride + 1, (shape.w - 1) // stride + 1
        middle = x.new_empty(*size, shape.c)
        out, bias, add = _output_and_bias(x, size[0] * size[1] * size[2], len(pointwise), plus)
        weights = weight.contiguous(), pointwise.contiguous()
        self._call("separable", shape, _long(len(pointwise)), x, *weights, bias, add, middle, out)
        return middle.permute(0, 3, 1, 2), out

    def separable_gradients(
        self, gradient: Tensor, x: Tensor, middle: Tensor, weight: Tensor, pointwise: Tensor, dilation: int,
        into: Tensor | None, wanted: tuple[bool, bool],
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
        """Its gradients at stride 1: by x ``(N H W, C)``, added to ``into`` if given, and by the weights wanted.

        :param gradient: that by the output, ``(N H W, O)``, with rows of any distance.
        """
        shape, x = _shape(x, weight, dilation, 1), _rows(x)
        by_x = x.new_empty(x.numel() // shape.c, shape.c) if into is None else into
        by_weight, by_pointwise = (
            each.new_empty(each.shape) if asked else None
            for each, asked in zip((weight, pointwise), wanted, strict=True)
        )
        gradient, row = _with_rows(gradient)
        self._call(
            "separable_gradients", shape, _long(len(pointwise)), x, _rows(middle), gradient, row, weight.contiguous(),
            pointwise.contiguous(), by_x, int(into is not None), by_weight, by_pointwise,
        )  # fmt: skip
        return by_x, by_weight, by_pointwise

    def _call(self, name: str, shape: Shape, *arguments: Any) -> None:
        """Runs a function; tensors go as pointers, and live until it is done."""
        given = ctypes.byref(shape)
        size = self._functions.scratch_floats(given, arguments[0] if isinstance(arguments[0], _long) else _long(0))
        scratch: Tensor | None = getattr(self._of_thread, "scratch", None)
        if scratch is None or len(scratch) < size:
            scratch = self._of_thread.scratch = torch.empty(size, dtype=torch.float32, device="cpu")
        pointers = [
            ctypes.c_void_p(each.data_ptr()) if isinstance(each, Tensor) else each for each in (*arguments, scratch)
        ]
        getattr(self._functions, name)(given, *pointers)


def _shape(x: Tensor, weight: Tensor, dilation: int, stride: int) -> Shape:
    n, c, h, w = x.shape
    return Shape(n, h, w, c, weight.shape[-1], dilation, stride)


_long = ctypes.c_long


def _of_rows(x: Tensor) -> Shape:
    return Shape(len(x), 1, 1, x.shape[1], 1, 1, 1)


def _with_rows(gradient: Tensor) -> tuple[Tensor, ctypes.c_long]:
    """Rows whose numbers follow each other, and how far the rows are apart."""
    gradient = gradient if gradient.stride(1) == 1 else gradient.contiguous()
    return gradient, _long(gradient.stride(0))


def _output_and_bias(like: Tensor, rows: int, channels: int, plus: Tensor | None) -> tuple[Tensor, Tensor | None, int]:
    """Where the output goes, the row that is added to it, and whether it is added to what is there."""
    if plus is not None and plus.ndim == 2:
        return plus, None, 1
    return like.new_empty(rows, channels), None if plus is None else plus.contiguous(), 0


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def library_for(*tensors: Tensor) -> Library | None:
    """The library, where it can compute with these tensors, and nobody has to see the operation; else None.

    With several threads inside an operation torch's own are faster.
    """
    if torch.get_num_threads() != 1 or _watched() or not all(map(_plain, tensors)):
        return None
    return library()


def depthwise_library(x: Tensor, weight: Tensor, *others: Tensor) -> Library | None:
    """:func:`library_for` a depthwise convolution of x; None, too, where torch will tell what is wrong with them."""
    k = weight.shape[-1]
    fits = x.ndim == 4 and weight.shape == (x.shape[1], 1, k, k) and k % 2 == 1 and k <= WIDEST and x.numel() > 0
    return library_for(x, weight, *others) if fits else None


def _plain(x: Tensor) -> bool:
    if torch._C._functorch.is_batchedtensor(x) or torch._C._functorch.is_legacy_batchedtensor(x):
        return False
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and type(x) in (Tensor, torch.nn.Parameter)
        and not (x.requires_grad and torch.is_grad_enabled())
    )


def _watched() -> bool:
    """Whether operations are traced, transformed or counted."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0
    )


@lru_cache(maxsize=1)
def _loaded() -> Library | None:
    """Whatever goes wrong, torch serves."""
    if os.environ.get("NAS_NATIVE", "").lower() in ("0", "false", "no", "off"):
        return None
    try:
        compiler = _compiler()
        built_by = _output(*compiler, "--version").splitlines()[0]
        path = _cache_folder() / f"native-{_key(' '.join(compiler), built_by)}.so"
        kept = path.exists()
        found = _usable(path, built_by) if kept else None
        if found is None:  # none yet, or damaged
            _build(compiler, path)
            found = _usable(path, built_by)
        return found
    except Exception:
        return None


def _usable(path: Path, built_by: str) -> Library | None:
    try:
        found = Library(path, built_by)
    except (OSError, AttributeError):
        return None
    return found if _agrees(found) else None


def _compiler() -> tuple[str, ...]:
    """The command, as ``CC`` has it, or the first that is there.

    :raises FileNotFoundError: there is none.
    """
    chosen = os.environ.get("CC")
    for command in [chosen] if chosen else ("cc", "gcc", "clang"):
        words = shlex.split(command)
        if words and (path := shutil.which(words[0])):
            return path, *words[1:]
    raise FileNotFoundError("no C compiler")


def library() -> Library | None:
    """The library; None where there is none to be had."""
    with _building:
        return _loaded()


def description() -> str:
    """What computes the convolutions: ``C, gcc ... 12.2.0``, or ``torch``."""
    found = library()
    return "torch" if found is None else f"C, {found.built_by}"


def _output(*command: str) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=True,
        timeout=BUILD_SECONDS,
    )  # fmt: skip
    return done.stdout


def _cache_folder() -> Path:
    """Of this user and nobody else to write to, as a library is loaded from there.

    :raises OSError: it cannot be so.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas-robust"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "geteuid") and (folder.stat().st_uid != os.geteuid() or folder.stat().st_mode & 0o022):
        raise PermissionError(f"others may write to {folder}")
    return folder


def _key(compiler: str, built_by: str) -> str:
    """Of all that the library depends on; homes are shared by different processors."""
    processor = platform.machine() + platform.system() + platform.processor()
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        processor += "".join(line for line in first.splitlines() if line.startswith(PROCESSOR))
    except OSError:
        pass
    parts = (SOURCE.read_bytes(), *(each.encode() for each in (compiler, built_by, " ".join(FLAGS), processor)))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _build(compiler: Sequence[str], path: Path) -> None:
    """Several processes may do so at a time: each writes a file of its own, which takes the place as a whole."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        _output(*compiler, *FLAGS, "-o", str(made), "-x", "c", str(SOURCE))
        os.replace(made, path)


def _agrees(found: Library) -> bool:
    """Whether the library has torch's values on an example: a compiler may be broken, a file damaged.

    In a context of its own: the caller's modes and defaults have nothing to do with it.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        generator = torch.Generator().manual_seed(0)
        sizes = (2, 16, 9, 7), (16, 1, 5, 5), (16, 16, 1, 1), (2, 16, 9, 7)
        x, weight, pointwise, gradient = (
            torch.randn(size, generator=generator, dtype=torch.float32, device="cpu") for size in sizes
        )
        between = F.conv2d(x, weight, None, 1, 2, groups=16)
        backward: Any = torch.ops.aten.convolution_backward
        step, whole = ((1, 1), False, (0, 0)), (True, True, False)
        by_between, by_pointwise, _ = backward(gradient, between, pointwise, None, (1, 1), (0, 0), *step, 1, whole)
        by_x, by_weight, _ = backward(by_between, x, weight, None, (1, 1), (2, 2), *step, 16, whole)
        expected = [between, _rows(F.conv2d(between, pointwise)), _rows(by_x), by_weight, by_pointwise]
        middle, out = found.separable(x, weight, pointwise, 1, 1, None)
        arriving = _rows(gradient).view(-1, 16)
        found_gradients = found.separable_gradients(arriving, x, middle, weight, pointwise, 1, None, (True, True))
        return all(
            a is not None and torch.allclose(a.reshape(b.shape), b, rtol=1e-4, atol=1e-3)
            for a, b in zip((middle, out, *found_gradients), expected, strict=True)
        )
