"""Tabular benchmarks: published accuracies of trained cells, on which a search can run without training anything.

``load_table(name, directory)`` reads the published files; nothing is downloaded, extracted or executed.
In every table accuracies are in percent, 0 to 100, rounded to 0.0001 (the published fractions are single precision).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import unknown
from nas.files import as_path

if TYPE_CHECKING:
    from nas.tabular.base import Table


@dataclass(frozen=True)
class Benchmark:
    """A table that can be loaded: the name of its search space, and the function that reads it from a directory.

    ``channels`` are those of its networks, where they are not the default of the space.
    """

    space: str
    load: Callable[[Path], Table]
    channels: int | None = None


def _tiny_robustbench(directory: Path) -> Table:
    from nas.tabular.tiny_robustbench import load

    return load(directory)


def _nas_robbench_201(directory: Path) -> Table:
    from nas.tabular.nas_robbench_201 import load_adversarial

    return load_adversarial(directory)


def _nas_bench_201_r(directory: Path) -> Table:
    from nas.tabular.nas_robbench_201 import load_standard

    return load_standard(directory)


def _nares(directory: Path) -> Table:
    from nas.tabular.nares import load

    return load(directory)


#: the tables by name; a loader imports its module when it is called; a new table needs one row here
TABLES = {
    "nas_robbench_201": Benchmark("nasbench201", _nas_robbench_201),
    "nas_bench_201_r": Benchmark("nasbench201", _nas_bench_201_r),
    "tiny_robustbench": Benchmark("darts", _tiny_robustbench),
    "nares": Benchmark("wide_resnet", _nares, channels=16),
}


def find_benchmark(name: str) -> Benchmark:
    """The entry of :data:`TABLES` for ``name``.

    :raises UserError: unknown name; the message lists the most similar valid names first.
    """
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    return TABLES[name]


def load_table(name: str, directory: str | Path) -> Table:
    """The table ``name``, read from its published files in ``directory/name`` or in ``directory``.

    :raises UserError: unknown name; a file is missing, truncated or altered.
    """
    return find_benchmark(name).load(as_path("data_dir", directory))
