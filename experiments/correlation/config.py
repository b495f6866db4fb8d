"""The configuration of a correlation: every option once, with its default, its help and its bounds."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from typing import Any

from nas.cli import bounds
from nas.cli.bounds import flag
from nas.cli.fields import check_types, option, path_option
from nas.errors import UserError, as_user_error
from nas.tabular import find_benchmark
from proxies import POPULATION_PROXIES, PROXIES
from proxies.spelling import canonical

PROGRAM = "python -m experiments.correlation"
BASELINES = ("params", "macs", "conv_count")

#: The default metric of each table, an accuracy under attack.
METRICS = {
    "tiny_robustbench": "cifar10/pgd",
    "nas_robbench_201": "cifar10/autoattack",
    "nas_bench_201_r": "cifar10/pgd",
    "nares": "cifar10/aa_compact",
}


@dataclass(frozen=True, kw_only=True)
class CorrelationConfig:
    """Which proxies are compared with which accuracies. Fields marked ``free`` do not change any score."""

    table: str = option(
        "tiny_robustbench", "measured accuracies: tiny_robustbench, nas_robbench_201, nas_bench_201_r, nares"
    )
    metric: str = option(
        None,
        "which accuracy (default: cifar10/pgd, of nas_robbench_201 cifar10/autoattack, of nares cifar10/aa_compact)",
    )
    data_dir: str = path_option("data", "where the files of tables, cifar10, cifar100 and svhn are kept", free=True)
    dataset: str = option(
        "cifar10", "images the proxies see: digits, cifar10, cifar100, svhn or folder:PATH; not read if all only count"
    )
    download: bool = option(False, "fetch the data set if it is not in --data-dir", free=True)
    image_size: int | None = option(None, "resize the images to this many pixels square")
    images: int = option(50, "images in the batch; a proxy that takes fewer takes the first")
    proxy: tuple[str, ...] = option(
        None,
        "proxy to judge, such as synflow or 'snip(images=64)' (default: all); repeat it for several; params, macs,"
        " conv_count always come too",
    )
    seed: int = option(0, "the first seed of weights and batch; also draws --cells and the bootstrap")
    seeds: int = option(1, "number of seeds; a cell's score is the mean over them")
    cells: int | None = option(
        None, "so many cells, spread over the range of the metric (default: 300, or all if no proxy takes 50 ms a cell)"
    )
    bootstrap: int = option(2000, "resamples of the cells behind each interval", free=True)
    workers: int | None = option(None, "processes, of one thread each (default: one per core)", free=True)

    def __post_init__(self) -> None:
        check_types(self)
        find_benchmark(self.table)
        if self.metric is None:
            object.__setattr__(self, "metric", METRICS[self.table])
        given = self.proxy if self.proxy is not None else (*PROXIES, *POPULATION_PROXIES)
        names = as_user_error(lambda: canonical((given,) if isinstance(given, str) else given))
        object.__setattr__(self, "proxy", (*names, *(name for name in BASELINES if name not in names)))
        if len(set(self.proxy)) < len(self.proxy):
            raise UserError(f"--proxy must name each proxy once, got {', '.join(names)}")
        for name, least in (
            ("images", 1), ("seeds", 1), ("cells", 4), ("bootstrap", 1), ("workers", 1), ("image_size", 1), ("seed", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None or name not in ("cells", "workers", "image_size"):
                bounds.whole(name, value, least)

    @property
    def all_seeds(self) -> range:
        """The seeds of weights and batch."""
        return range(self.seed, self.seed + self.seeds)

    def to_json(self) -> dict[str, Any]:
        """Plain values by field name, as the manifest stores them and ``--config`` reads them."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }

    def differences(self, stored: dict[str, Any]) -> list[str]:
        """The options that change scores and differ from ``stored``, such as ``--seed 1 (was 0)``."""
        given = self.to_json()
        return [
            f"{flag(field.name)} {_in_words(given[field.name])} (was {_in_words(stored.get(field.name))})"
            for field in dataclasses.fields(self)
            if not field.metadata.get("free") and given[field.name] != stored.get(field.name)
        ]

    @property
    def command_line(self) -> str:
        """The command line that repeats this experiment, without the output directory."""
        plain, words = CorrelationConfig(table=self.table), [PROGRAM, "--table", self.table]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("table", "workers", "download") or value == getattr(plain, field.name):
                continue
            for each in value if isinstance(value, tuple) else (value,):
                words += [flag(field.name), shlex.quote(str(each))]
        return " ".join(words)


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
