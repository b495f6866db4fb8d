"""NARes: adversarially trained wide residual networks, all 15,625 of the space ``wide_resnet``.

"A Neural Architecture Dataset for Adversarial Robustness" (Zheng, Cheng, Huang, Lu and Boddeti,
https://openreview.net/forum?id=AZVvTBxTdZ). Each network was trained once on CIFAR-10, 100 epochs with PGD; the epoch
with the best PGD-CW accuracy on CIFAR-10.1 is the one that was attacked (epsilon 8/255). The published archive
nares.txz holds ``cifar10.jsonl``: a JSON object a line, with ``arch_id``, the numbers of the stages in ``arch``, one
record of the training in ``train`` and one of the test in ``test_best``, as the published ``dataset.py`` reads them.
The archive is not read in place: it holds one large file, which is to be unpacked.

Departures: the accuracies under corruptions are not read, because ``dataset.py`` reads them in different ways in its
versions. ``aa_compact`` is the authors' selection of AutoAttack's members, APGD-CE and APGD-T.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.tabular.base import DECIMALS, Entry, Table
from nas.tabular.files import find_folder, parse_json
from search_spaces.base import NetworkSpec
from search_spaces.resnets.genotype import ResNetGenotype
from search_spaces.resnets.space import PUBLISHED_CHANNELS, WideResNetSpace

TITLE = "NARes"
SOURCE = "https://github.com/zhichao-lu/arch-dataset-adv-robustness (cifar10.jsonl in nares.txz of its release v1.0)"
FOLDER, FILE = "nares", "cifar10.jsonl"
NETWORKS = 15_625

#: for each metric: the field of the test's record
TEST = {
    "cifar10/clean": "test_clean_acc",
    "cifar10/fgsm": "Linf_fgsm_acc",
    "cifar10/pgd": "Linf_pgd_acc",
    "cifar10/cw": "Linf_cw_acc",
    "cifar10/aa_compact": "Linf_aa_acc",
}
#: for each metric on the 2,000 images of CIFAR-10.1: the field with the curve over epochs in the training's record
VALIDATION = {"cifar10/validation_clean": "val_acc", "cifar10/validation_pgd": "pgd", "cifar10/validation_cw": "cw"}


def load(directory: Path) -> Table:
    """The networks in ``directory/nares/cifar10.jsonl`` or ``directory/cifar10.jsonl``.

    :raises UserError: the file is missing, truncated or altered.
    """
    path = find_folder(directory, (FOLDER,), FILE, TITLE, SOURCE) / FILE
    space, digest = WideResNetSpace(), hashlib.sha256()
    entries: dict[int, Entry] = {}
    for number, line in _lines(path):
        digest.update(line + b"\n")
        record = parse_json(f"{path}, line {number},", line)
        try:
            id, genotype, values = _read(record)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise UserError(f"{path}: line {number} is altered: {reason}") from None
        if id in entries:
            raise UserError(f"{path}: the network {id} stands there twice")
        entries[id] = Entry(str(id), space.format(genotype), space.canonical(genotype), values)
    return Table(
        name=FOLDER,
        title=TITLE,
        space=space.name,
        spec=NetworkSpec(channels=PUBLISHED_CHANNELS, layers=None),
        metrics=(*TEST, *VALIDATION),
        entries=tuple(entries[id] for id in sorted(entries)),
        whole=NETWORKS,
        kind="networks",
        training="adversarially trained (PGD, 100 epochs)",
        source=SOURCE,
        files={FILE: digest.hexdigest()},
    )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbers, from 1, and contents of the lines that are not blank: the file has about 15 KB a network."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if stripped := line.strip():
                    yield number, stripped
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _read(record: Any) -> tuple[int, ResNetGenotype, tuple[float, ...]]:
    id, arch = record["arch_id"], record["arch"]
    if type(id) is not int or not 1 <= id <= NETWORKS:
        raise ValueError(f"arch_id is {id!r:.40}, expected a number from 1 to {NETWORKS}")
    depths, widths = (tuple(arch[f"{letter}{stage}"] for stage in (1, 2, 3)) for letter in "DW")
    genotype = ResNetGenotype(depths=depths, widths=widths)
    for gene, sampled in zip(genotype.genes, WideResNetSpace.choices, strict=True):
        if gene not in sampled:
            raise ValueError(f"arch has {gene!r:.40}, expected one of {', '.join(map(str, sampled))}")
    for name in ("train", "test_best"):
        if len(record[name]) != 1:
            raise ValueError(f"{name} has {len(record[name])} records, expected 1")
    trained, tested = record["train"][0], record["test_best"][0]
    best = trained["best_epoch"]
    if type(best) is not int or best < 0:
        raise ValueError(f"best_epoch is {best!r:.40}, expected a number from 0")
    values = [_percent(field, tested[field]) for field in TEST.values()]
    return id, genotype, (*values, *(_percent(field, trained[field][best]) for field in VALIDATION.values()))


def _percent(field: str, value: Any) -> float:
    if type(value) not in (float, int) or not (math.isfinite(value) and 0 <= value <= 100):
        raise ValueError(f"{field} is {value!r:.40}, expected a number from 0 to 100")
    return round(float(value), DECIMALS)
