"""Tiny-RobustBench: adversarially trained DARTS cells (Feng et al., ICLR 2025, https://github.com/fyqsama/ZCP).

223 random cells with 16 channels and 8 layers, trained on CIFAR-10 for 105 epochs with PGD-7 (epsilon 8/255, step
0.01). The records are in four JSON files, ``robust_bench_seed_*.json``, inside the published zcp.zip, which is read in
place and never extracted. The ``seed`` of a record is the seed from which the authors' code drew the cell. As
published, robust accuracy is the highest over all epochs under PGD on the test images; this selection makes it
slightly too high, in the same way for all cells.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from nas.errors import UserError
from nas.tabular.base import DECIMALS, Entry, Table
from nas.tabular.files import check_sum, find_folder, parse_json, read_bytes
from search_spaces import get_space
from search_spaces.base import NetworkSpec, SearchSpace

TITLE = "Tiny-RobustBench"
SOURCE = "https://github.com/fyqsama/ZCP (inside zcp.zip)"
FOLDER = "tiny_robustbench"
PATTERN, ARCHIVE = "robust_bench_seed_*.json", "zcp.zip"
RECORDS = 223
LARGEST_BYTES = 2**26  # largest accepted size of a file in the archive; the published files have under 2**20 bytes
SPEC = NetworkSpec(channels=16, layers=8)

#: for each metric: the field of a record, and the field with the curve over epochs whose maximum it must be
METRICS = {
    "cifar10/pgd": ("max_test_top1_adv", "test_ep_top1_adv"),
    "cifar10/clean": ("max_test_top1_original", "test_ep_top1_original"),
}

#: SHA-256 of published files, by :func:`nas.tabular.files.sha256`; it is known for two of the four files only.
PUBLISHED = {
    "robust_bench_seed_0_1000.json": "405f1687a88f5c49784275097320e088cd90b832442edb5d3904f9ce122104be",
    "robust_bench_seed_1000_2000.json": "19301d0acfabb082b5e0b17316d7f8e5314376cbcccadce07fa7e475569c9665",
}


def load(directory: Path) -> Table:
    """The records in ``directory/tiny_robustbench`` or ``directory``, from the JSON files, else from the archive.

    :raises UserError: a file is missing, truncated or altered.
    """
    space = get_space("darts")
    entries: dict[int, Entry] = {}
    files: dict[str, str] = {}
    for path, content in sorted(_contents(directory), key=lambda file: str(file[0])):
        name = Path(path).name
        found = check_sum(path, content, PUBLISHED)
        if files.get(name, found) != found:
            raise UserError(f"{path} stands there twice with different contents")
        if name in files:
            continue
        files[name] = found
        for seed, entry in _read_records(path, parse_json(path, content), space):
            if seed in entries:
                raise UserError(f"{path}: the record of seed {seed} stands there twice")
            entries[seed] = entry
    return Table(
        name=FOLDER,
        title=TITLE,
        space=space.name,
        spec=SPEC,
        metrics=tuple(METRICS),
        entries=tuple(entries[seed] for seed in sorted(entries)),
        whole=RECORDS,
        kind="records",
        training="adversarially trained (PGD-7, epsilon 8/255, 105 epochs)",
        source=SOURCE,
        files=files,
        sampled=True,
    )


def _contents(directory: Path) -> list[tuple[str, bytes]]:
    """Paths and contents of the files with records."""
    try:
        folder = find_folder(directory, (FOLDER,), PATTERN, TITLE, SOURCE)
    except UserError as error:
        try:
            archive = find_folder(directory, (FOLDER,), ARCHIVE, TITLE, SOURCE) / ARCHIVE
        except UserError:
            raise error from None
        return list(_in_archive(archive))
    return [(str(path), read_bytes(path, TITLE, SOURCE)) for path in folder.glob(PATTERN)]


def _in_archive(archive: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [each for each in opened.infolist() if fnmatch(PurePosixPath(each.filename).name, PATTERN)]
            for member in members:
                if member.file_size > LARGEST_BYTES:
                    raise UserError(f"{archive}: {member.filename} has {member.file_size:,} bytes, expected far fewer")
                yield f"{archive}/{member.filename}", opened.read(member)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive} cannot be read, it is cut off or altered: {error}") from None
    if not members:
        raise UserError(f"{archive} holds no {PATTERN}; {TITLE} is published at {SOURCE}")


def _read_records(path: str, records: Any, space: SearchSpace[Any]) -> Iterator[tuple[int, Entry]]:
    if not isinstance(records, list):
        raise UserError(f"{path} holds {type(records).__name__}, expected a list of records")
    for number, record in enumerate(records):
        try:
            yield _read_record(record, space)
        except (KeyError, TypeError, ValueError) as error:  # an error in a genotype is a ValueError
            reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise UserError(f"{path}: record {number} is altered: {reason}") from None


def _read_record(record: Any, space: SearchSpace[Any]) -> tuple[int, Entry]:
    seed, net = record["seed"], record["net"]
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed {seed!r:.40}, expected a number from 0")
    size = net["width"], net["depth"], net["aux"]
    if size != (SPEC.channels, SPEC.layers, False):
        raise ValueError(f"width, depth, aux {size}, expected {(SPEC.channels, SPEC.layers, False)}")
    parts = net["genotype"]
    named = {name: parts[name] for name in ("normal", "normal_concat", "reduce")}
    genotype = space.parse(json.dumps({**named, "reduce_concat": parts["reduce_concate"]}))  # the file's spelling
    values = tuple(_accuracy(record, *fields) for fields in METRICS.values())
    return seed, Entry(str(seed), space.format(genotype), space.canonical(genotype), values)


def _accuracy(record: Any, name: str, curve: str) -> float:
    """The accuracy in a field of the record, in percent.

    :raises ValueError: it is not a percentage, or not the maximum of its curve over the epochs.
    """
    value = record[name]
    if type(value) not in (float, int) or not (math.isfinite(value) and 0 <= value <= 100):
        raise ValueError(f"{name} is {value!r:.40}, expected a number from 0 to 100")
    if value != max(record[curve]):
        raise ValueError(f"{name} is {value}, but the best of {curve} is {max(record[curve])}")
    return round(float(value), DECIMALS)
