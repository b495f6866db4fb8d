"""Image files as arrays of pixels, decoded by several threads. Sizes are checked before anything is decoded."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from nas.errors import UserError
from nas.images.memory import check_memory

FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")
CHUNK = 64  # images that a thread decodes in one task, fewer where they are large:
CHUNK_PIXELS = 2**24
MOST_PIXELS = 2**26  # of one image, which is decoded whole before it is resized
THREADS = min(os.cpu_count() or 1, 4)  # more threads do not help: decoding small images mostly holds Python's lock
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def read_images(paths: Sequence[str], image_size: int | None) -> Tensor:
    """All images as uint8 ``(N, 3, H, W)``; of several wrong files, the first in ``paths`` is always reported.

    :param image_size: height and width to which each is resized; None: all must have those of the first.
    :raises UserError: an image cannot be read, is too large, or has another size; or they do not fit into memory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # _open_image refuses them
        width, height = size = (image_size, image_size) if image_size else _open_image(paths[0]).size
        check_memory(f"{len(paths):,} images of {width}x{height} pixels", 3 * len(paths) * width * height)
        images = torch.empty((len(paths), 3, height, width), dtype=torch.uint8)
        many = max(1, min(CHUNK, CHUNK_PIXELS // (width * height)))

        def fill(start: int) -> None:
            chunk = paths[start : start + many]
            column = Image.new("RGB", (width, height * len(chunk)))  # one image for the chunk saves a fifth of the time
            for row, path in enumerate(chunk):
                column.paste(_read_image(path, size, paths[0], resize=image_size is not None), (0, height * row))
            pixels = np.asarray(column).reshape(-1, height, width, 3).transpose(0, 3, 1, 2)
            images.numpy()[start : start + many] = pixels

        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(fill, range(0, len(paths), many)):  # in order; leaving on an error cancels the rest
                pass
    return images


def _open_image(path: str) -> Image.Image:
    """An image that is not decoded yet; its size is known, and is not that of a decompression bomb."""
    try:
        with open(path, "rb", buffering=0) as file:
            image: Image.Image = Image.open(BytesIO(file.read()), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UserError(
            f"cannot read image '{path}': got no image data, expected one of {', '.join(FORMATS)}"
        ) from error
    except DECODE_ERRORS as error:
        raise _unreadable(path, error) from error
    if image.width * image.height > MOST_PIXELS:
        raise UserError(
            f"image '{path}' has {image.width}x{image.height} pixels, which are decoded at once, expected at most"
            f" {MOST_PIXELS:,} in all"
        )
    return image


def _unreadable(path: str, error: Exception) -> UserError:
    cause = getattr(error, "strerror", None) or error
    return UserError(f"cannot read image '{path}': {cause}; expected an intact image file")


def _read_image(path: str, size: tuple[int, int], like: str, resize: bool) -> Image.Image:
    """One decoded RGB image; transparency is dropped.

    :param size: width and height that it is resized to, or must have. :param like: the image that has them.
    """
    image = _open_image(path)
    if image.size != size and not resize:
        raise UserError(
            f"image '{path}' has {image.width}x{image.height} pixels, expected {size[0]}x{size[1]} "
            f"like '{like}'; --image-size N resizes every image to NxN"
        )
    try:
        image.load()
    except DECODE_ERRORS as error:
        raise _unreadable(path, error) from error
    if image.mode.startswith(("I", "F")):
        raise UserError(f"image '{path}' has pixels of mode '{image.mode}', expected 8 bits a channel")
    if image.mode == "P":  # first to RGBA: Pillow warns if a palette with transparency is converted to RGB directly
        image = image.convert("RGBA")
    if image.mode != "RGB":
        image = image.convert("RGB")
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
