"""The configuration of a search: every option once, with its default, its help and its bounds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from nas.cli import bounds
from nas.cli.bounds import flag
from nas.errors import UserError, as_user_error, unknown
from proxies.spelling import canonical


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A configuration field: what the command line needs to know stands beside it."""
    return dataclasses.field(default=default, metadata={"help": help, **metadata})


DEFAULT_PROXIES = ("robust",)
RAY = ("executor", "ray")
_OPTIONAL = (
    "layers",
    "threads",
    "workers",
    "gpus_per_worker",
    "max_params",
    "max_macs",
    "image_size",
)  # None: no limit, or whatever there is


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What a search is: with the version of the program, all that its history depends on.

    Fields marked ``free`` change nothing in the history, so a resumed search may change them. Those marked
    ``untrained`` say how untrained networks are scored, which a search on a table does not do, those ``only_with`` an
    option's value are of no use otherwise. Space and proxies that
    are not given (None) follow from the rest.
    """

    space: str = option(None, "search space (default: darts, or that of --table)")
    searcher: str = option("regularized_evolution", "what proposes candidates: random or regularized_evolution")
    proxy: tuple[str, ...] = option(
        None,
        "proxy to rank by, such as synflow or 'snip(images=64)' (default: robust, none with --table); repeat it to"
        " combine several by rank",
    )
    table: str | None = option(None, "rank by measured accuracies: nas_robbench_201, nas_bench_201_r, tiny_robustbench")
    metric: str | None = option(None, "which accuracy of the table, such as cifar10/autoattack")
    budget: int = option(100, "number of candidates")
    seed: int = option(0, "seed of proposals, weights and the probe batch")
    dataset: str = option(
        "digits", "images: digits, cifar10, cifar100, svhn or folder:PATH (PATH/train/CLASS/IMAGE)", untrained=True
    )
    data_dir: str = option("data", "where cifar10, cifar100, svhn and the files of tables are kept", free=True)
    download: bool = option(False, "fetch the data set if it is not in --data-dir", free=True)
    image_size: int | None = option(None, "resize the images of a folder to this many pixels square", untrained=True)
    channels: int = option(16, "channels of the first cell")
    layers: int | None = option(None, "number of cells in the network (default: the space's own, such as 8 of darts)")
    ntk_images: int = option(50, "images of the robust proxies' NTK term", untrained=True)
    curvature_images: int = option(8, "images of the robust proxies' curvature term", untrained=True)
    robust_t: float = option(1e6, "t of the proxy 'robust': training time in the exponent", untrained=True)
    robust_h: float = option(
        50.0, "h of the proxy 'robust': length (L2) of the step the curvature is taken over", untrained=True
    )
    robust_function: Literal["logits", "loss"] = option(
        "logits", "what the NTK of the proxy 'robust' differentiates", untrained=True
    )
    robust_norm: Literal["eval", "train"] = option(
        "eval", "statistics of batch norms in the proxy 'robust'", untrained=True
    )
    sampler: Literal["uniform", "published"] = option(
        "uniform", "random search: uniform, or the space's published sampler, one seed a cell counting up from --seed"
    )
    population: int = option(50, "regularized evolution: cells alive at a time")
    tournament: int = option(10, "regularized evolution: cells of which the best becomes a parent")
    candidates_per_step: int = option(10, "candidates proposed at a time; a larger number feeds more workers")
    max_params: int | None = option(None, "reject cells of more parameters (at --channels and --layers)")
    max_macs: int | None = option(None, "reject cells of more multiply-accumulates (likewise)")
    require: tuple[str, ...] = option((), "reject cells that do not meet it: 'normal.skip_connect == 2'; repeatable")
    max_draws: int = option(100_000, "give up after so many draws in a row that meet no constraint")
    threads: int | None = option(None, "candidates scored at a time on the CPU (default: one per core)", free=True)
    device: str = option("auto", "cpu, cuda, cuda:N, or auto: cuda where there is one")
    executor: Literal["local", "ray"] = option(
        "local", "where candidates are scored: in this process, or by Ray actors", free=True, untrained=True
    )
    workers: int | None = option(None, "ray: actors (default: as many as the machines hold)", free=True, only_with=RAY)
    cpus_per_worker: float = option(1.0, "ray: cores reserved by an actor", free=True, only_with=RAY)
    gpus_per_worker: float | None = option(
        None,
        "ray: GPUs reserved by an actor, such as 0.25 (default: 1 with --device cuda, else 0)",
        free=True,
        only_with=RAY,
    )
    chunk_seconds: float = option(0.2, "ray: work handed to an actor at a time", free=True, only_with=RAY)
    candidate_timeout: float = option(
        600.0,
        "ray: seconds after which a candidate's actor is ended; it fails the second time",
        free=True,
        only_with=RAY,
    )
    address: str | None = option(
        None,
        "ray: a cluster to join (default: RAY_ADDRESS, else a private one on this machine)",
        free=True,
        only_with=RAY,
    )

    def __post_init__(self) -> None:
        self._fill_in()
        for name in ("proxy", "require"):
            object.__setattr__(self, name, bounds.texts(getattr(self, name)))
        object.__setattr__(self, "proxy", as_user_error(lambda: canonical(self.proxy)))
        if self.table is not None:
            self._check_table()
        elif not self.proxy:
            raise UserError("--proxy must name at least one proxy, got none")
        if len(set(self.proxy)) < len(self.proxy):
            raise UserError(f"--proxy must name each proxy once, got {', '.join(self.proxy)}")
        self._check_bounds()

    def _fill_in(self) -> None:
        """What is not given follows from the rest."""
        space, proxy = "darts", [*DEFAULT_PROXIES]
        if self.table is not None:
            from nas.tabular import find_benchmark

            space, proxy = find_benchmark(self.table).space, []
        for name, value in (("space", space), ("proxy", proxy)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.metric is not None and self.table is None:
            raise UserError(f"--metric {self.metric} needs --table, got none")

    def _check_table(self) -> None:
        """Refuse what a search on a table has no use for."""
        from nas.tabular import find_benchmark

        assert self.table is not None
        measured = find_benchmark(self.table).space
        if self.space != measured:
            raise UserError(f"--space must be {measured}, the space of --table {self.table}, got {self.space}")
        if self.proxy:
            raise UserError(
                f"--proxy {self.proxy[0]} and --table {self.table} both rank the cells, expected one of them"
            )
        for field in dataclasses.fields(self):
            if field.metadata.get("untrained") and getattr(self, field.name) != field.default:
                raise UserError(f"{flag(field.name)} has no use with --table: no network is built, no image is read")

    def _check_bounds(self) -> None:
        for name in (
            "budget", "channels", "layers", "ntk_images", "curvature_images", "population", "tournament",
            "candidates_per_step", "max_draws", "threads", "workers", "max_params", "max_macs", "image_size",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                bounds.whole(name, value)
        bounds.seed(self.seed)
        if self.tournament > self.population:
            raise UserError(f"--tournament must be at most --population ({self.population}), got {self.tournament}")
        bounds.number("robust_t", self.robust_t, 0)
        bounds.positive("robust_h", self.robust_h)
        for name in ("chunk_seconds", "candidate_timeout"):
            bounds.positive(name, getattr(self, name))
        check_executor(self)
        if self.executor == "ray" and self.threads is not None:
            raise UserError("--threads has no use with --executor ray, expected --workers")

    def to_json(self) -> dict[str, Any]:
        """Plain values by field name, as the manifest stores them and ``--config`` reads them."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }


def check_executor(config: Any) -> None:
    """:raises UserError: ``--executor``, and the options that say what its workers have, cannot be."""
    if config.executor not in ("local", "ray"):
        raise unknown("executor", str(config.executor), ("local", "ray"))
    if config.executor == "local":
        for field in dataclasses.fields(config):
            if field.metadata.get("only_with") == RAY and getattr(config, field.name) != field.default:
                raise UserError(f"{flag(field.name)} has no use without --executor ray")
        return
    bounds.positive("cpus_per_worker", config.cpus_per_worker)
    gpus = config.gpus_per_worker
    if gpus is not None:
        bounds.number("gpus_per_worker", gpus)
    if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
        raise UserError(f"--gpus-per-worker must be a fraction up to 1 or a whole number, got {gpus:g}")
    if gpus and config.device == "cpu":
        raise UserError(f"--gpus-per-worker {gpus:g} has no use with --device cpu")
    if gpus == 0 and config.device.startswith("cuda"):
        raise UserError(f"--device {config.device} needs --gpus-per-worker above 0, got 0")


class Configuration(Protocol):
    """A dataclass of options."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def to_json(self) -> dict[str, Any]:
        """Plain values by field name."""


def differences(stored: dict[str, Any], config: Configuration) -> list[str]:
    """Where a configuration differs from a stored one in a way that would change the history: ``--seed 1 (was 0)``."""
    given = config.to_json()
    return [
        f"{flag(field.name)} {given[field.name]} (was {stored.get(field.name)})"
        for field in dataclasses.fields(config)
        if field.init and not field.metadata.get("free") and given[field.name] != stored.get(field.name)
    ]
