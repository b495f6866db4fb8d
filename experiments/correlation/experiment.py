"""One correlation experiment, from the table to the output files; it can be resumed after any interruption."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from experiments.correlation import cells as choice
from experiments.correlation.analysis import REFERENCE, Analysis, Column, Finding, columns, in_order
from experiments.correlation.cells import Cells
from experiments.correlation.config import PROGRAM, CorrelationConfig
from experiments.correlation.score_log import NAME, ScoreLog
from experiments.correlation.scoring import Batch, Job, Record, Task, lacking, seconds_alone
from experiments.correlation.workers import scored
from experiments.rank_statistics import Floats
from nas.device import torch_threads
from nas.errors import Stopped, Unwritable, UserError
from nas.executors.local import available_cores
from nas.files import check_free, kind, write
from nas.images.data import fingerprint, load_data, probe_batch
from nas.runs import environment
from nas.runs.directory import RunDirectory, holds_run, read_manifest, write_json
from nas.runs.schema import POSITIVE, TEXT, WHOLE, by_name, fields, maybe
from nas.tabular import load_table
from search_spaces import get_space
from search_spaces.base import NetworkSpec

WORTH_A_PROCESS_SECONDS = 10.0  # with less to score, starting worker processes takes longer than they save
FILES = ("table.md", "correlation.csv", "correlation.json", "correlation.png")  # of the results
SAME = {"data": "data set", "table": "table"}  # whose fingerprints must be the same when a run is resumed

_OWN = {
    "data": maybe(fields({}, {"name": TEXT, "fingerprint": TEXT, "images": WHOLE})),
    "seconds_alone": by_name(maybe(POSITIVE)),
}


class Watch(Protocol):
    """Receives reports of the progress."""

    def begin(self, what: str, total: int, done: int = 0) -> None: ...

    def step(self, name: str = "") -> None: ...

    def warn(self, text: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Result:
    """``findings``: best first, the measured reference last. ``facts``: configuration, data, versions, hardware."""

    findings: list[Finding]
    facts: dict[str, Any]


class Correlation:
    """:param path: output directory. :param resume: continue the run that it holds.

    :raises UserError: a table, metric or proxy does not exist.
    """

    def __init__(self, config: CorrelationConfig, path: Path, *, resume: bool = False):
        self.config = config
        self.path = path
        self.resume = resume
        self._check_path()
        self.table = load_table(config.table, config.data_dir)
        self.spec = self.table.spec_for(config.metric)
        self._check_proxies()

    def _check_proxies(self) -> None:
        """Before images are read: whether all names are known and the batch is large enough.

        :raises UserError: a name is unknown, or a proxy needs more images than there are.
        """
        for proxy in self._job({}).network_proxies(self.config.seed):
            if proxy.images_needed() > self.config.images:
                needed = proxy.images_needed()
                raise UserError(f"--proxy {proxy.name} needs {needed} images, --images is {self.config.images}")

    def run(self, watch: Watch) -> Result:
        """Score the cells that have no stored score, compute the statistics, write the files.

        :raises Stopped: a worker process ended, or the machine lacks memory or the like; finished records are kept.
        :raises Unwritable: a file cannot be written, or was removed meanwhile; likewise.
        :raises KeyboardInterrupt: with a message that says how to resume.
        """
        job, facts = self._prepare()
        with RunDirectory(self.path, get_space(self.table.space)) as run, ScoreLog(self.path) as log:
            self._check_path()  # again, now that the directory is locked
            stored = read_correlation(self.path) if self.resume else {}
            facts = {**facts, **self._stored_facts(stored, facts)}
            if facts["warning"]:
                watch.warn(facts["warning"])
            try:
                if "seconds_alone" not in facts:
                    facts["seconds_alone"] = self._timed(job, watch)
                chosen = self._cells(facts["seconds_alone"])
                log.read()  # raises if a line is damaged, before anything is written
                run.write_manifest(facts)
                records = self._score(job, chosen, facts["seconds_alone"], log, watch)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"interrupted; {self._how_to_go_on(log)}") from None
            except (Stopped, Unwritable) as error:
                raise type(error)(f"{error}; {self._how_to_go_on(log)}") from None
            facts["seconds"] = round(facts["seconds"] + time.perf_counter() - self._started, 1)
            run.write_manifest(facts)
            return self._finish(job, chosen, records, facts, watch)

    def _how_to_go_on(self, log: ScoreLog) -> str:
        kept = len(log.read())
        if not kept:
            return "nothing was scored yet"
        return f"{kept:,} networks scored are kept; to go on: {PROGRAM} --resume {shlex.quote(str(self.path))}"

    def _check_path(self) -> None:
        """Refuse a directory that holds another run, or, to resume, no run of this configuration."""
        if not self.resume:
            if holds_run(self.path) or kind(self.path / NAME) is not None:
                raise UserError(f"{self.path} already holds a run; pass --resume to go on with it, or another --out")
            check_free(*(self.path / name for name in FILES))
            return
        differing = self.config.differences(read_correlation(self.path)["configuration"])
        if differing:
            raise UserError(f"cannot resume {self.path} with another configuration: {', '.join(differing)}")

    def _job(self, batches: Mapping[int, Batch]) -> Job:
        return Job(space=self.table.space, spec=self.spec, names=self.config.proxy, batches=batches)

    def _prepare(self) -> tuple[Job, dict[str, Any]]:
        """The scoring job, and the facts of this run for the manifest."""
        self._started = time.perf_counter()
        config, table = self.config, self.table
        trained = self.spec
        batches, data, words = self._images()
        facts: dict[str, Any] = {
            "command": "correlation",
            "configuration": config.to_json(),
            "command_line": config.command_line,
            "table": {
                "name": table.name,
                "metric": config.metric,
                "unit": "percent",
                "description": table.description,
                "source": table.source,
                "fingerprint": table.fingerprint,
                "files": dict(table.files),
            },
            "data": data,
            "images_in_words": words,
            "network": dataclasses.asdict(self.spec),
            "versions": environment.versions(),
            "hardware": environment.hardware("cpu"),
            "git_commit": environment.git_commit(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": 0.0,
        }
        warnings = []
        if self.spec != trained:
            warnings.append(
                f"The networks scored take {_images_in_words(self.spec)}, those of the table were trained on"
                f" {_images_in_words(trained)}."
            )
        measured = config.metric.partition("/")[0]
        if data is not None and data["name"].partition(":")[0] not in (measured, "folder"):
            warnings.append(f"The proxies see images of {data['name']}, the accuracies are those on {measured}.")
        if "without adversarial examples" in table.training:
            warnings.append(
                "The networks were trained without adversarial examples: no robustness proxy should be judged on them."
            )
        return self._job(batches), {**facts, "warning": " ".join(warnings)}

    def _images(self) -> tuple[dict[int, Batch], dict[str, Any] | None, str]:
        """A batch for each seed (one blank image if no proxy looks at images), facts on the data, and a description."""
        config, spec = self.config, self.spec
        if not any(proxy.images_needed() for proxy in self._job({}).network_proxies(self.config.seed)):
            blank = np.zeros((1, spec.image_channels, *spec.image_size), np.float32), np.zeros(1, np.int64)
            return {seed: blank for seed in config.all_seeds}, None, "No images: all proxies only count"
        data = load_data(
            config.dataset, data_dir=config.data_dir, download=config.download, image_size=config.image_size
        )
        batches: dict[int, Batch] = {}
        try:
            for seed in config.all_seeds:
                images, labels = probe_batch(data.train, config.images, seed)
                batches[seed] = images.numpy(), labels.numpy()
        except UserError as error:
            raise UserError(f"--images: {error}") from None
        shape = images.shape
        self.spec = NetworkSpec(
            channels=spec.channels, layers=spec.layers, classes=len(data.classes),
            image_size=(shape[2], shape[3]), image_channels=shape[1],
        )  # fmt: skip
        facts = {"name": data.name, "fingerprint": fingerprint(data.train), "images": len(data.train.labels)}
        kind, _, folder = data.name.partition(":")
        source = f"the folder {Path(folder).name}" if folder else kind
        return batches, facts, f"Scored on {config.images} images of {source}"

    def _stored_facts(self, stored: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """The facts that a resumed run takes over from its manifest; data set and table must be the same."""
        if not stored:
            return {}
        try:
            for name, words in SAME.items():
                now, then = ((each[name] or {}).get("fingerprint") for each in (facts, stored))
                if now != then:
                    raise UserError(f"cannot resume {self.path} with another {words}: got {now}, expected {then}")
            return {name: stored[name] for name in ("seconds_alone", "started", "seconds")}
        except (KeyError, TypeError) as error:
            raise UserError(f"the manifest of {self.path} is damaged: {type(error).__name__} {error}") from None

    def _timed(self, job: Job, watch: Watch) -> dict[str, float | None]:
        entries = choice.spread(self.table, self.config.metric)
        watch.begin("timing", len(job.names))
        with torch_threads(1):
            return seconds_alone(job, [entry.key for entry in entries], watch.step)

    def _cells(self, alone: Mapping[str, float | None]) -> Cells:
        n = self.config.cells
        if n is None and not self._cheap(alone):
            n = choice.MANY_CELLS
        return choice.choose(self.table, self.config.metric, n, self.config.seed)

    def _cheap(self, alone: Mapping[str, float | None]) -> bool:
        counting = all(proxy.cost == "count" for proxy in self._job({}).network_proxies(self.config.seed))
        return counting or all((each or 0.0) < choice.CHEAP_SECONDS for each in alone.values())

    def _score(
        self, job: Job, chosen: Cells, alone: Mapping[str, float | None], log: ScoreLog, watch: Watch
    ) -> list[Record]:
        """The records of all tasks; those that are not stored yet are scored and stored."""
        wanted: dict[Task, None] = dict.fromkeys((key, seed) for seed in self.config.all_seeds for key in chosen.keys)
        records = {(record.key, record.seed): record for record in log.read() if not lacking(record)}
        missing = [task for task in wanted if task not in records]
        work_seconds = len(missing) * sum(each or 0.0 for each in alone.values())
        workers = self.config.workers or (available_cores() if work_seconds > WORTH_A_PROCESS_SECONDS else 1)
        watch.begin("scoring", len(wanted), len(wanted) - len(missing))
        for record in scored(job, missing, workers) if missing else ():
            log.append(record)
            records[record.key, record.seed] = record
            watch.step()
        return [records[task] for task in wanted]

    def _finish(
        self, job: Job, chosen: Cells, records: Iterable[Record], facts: dict[str, Any], watch: Watch
    ) -> Result:
        from experiments.correlation import tables
        from experiments.correlation.picture import drawn

        config = self.config
        accuracy = choice.accuracies(self.table, config.metric, chosen.entries)
        judged = columns(
            job.proxies(config.seed), list(records), [entry.key for entry in chosen.entries], config.all_seeds
        )
        clean = choice.clean_metric(self.table, config.metric)
        reference = [] if clean is None else [self._reference(clean, chosen)]
        params = next(column.goodness for column in judged if column.name == "params")
        analysis = Analysis(accuracy, params, resamples=config.bootstrap, seed=config.seed)
        watch.begin("bootstrap", len(judged) + len(reference))
        findings: list[Finding] = []
        for column in [*judged, *reference]:
            watch.step(column.name)
            findings.append(analysis.judge(column, facts["seconds_alone"].get(column.name)))
        findings = [*in_order(findings[: len(judged)]), *findings[len(judged) :]]
        facts["cells"] = {
            "count": len(chosen.entries),
            "networks": len(chosen.keys),
            "rule": chosen.rule,
            "ids": [entry.id for entry in chosen.entries],
            "accuracy": accuracy.tolist(),
        }
        goodness: dict[str, Floats] = {column.name: column.goodness for column in [*judged, *reference]}
        write_json(self.path / "correlation.json", {**facts, "results": [each.to_json() for each in findings]})
        write(self.path / "correlation.csv", tables.as_csv(findings))
        write(self.path / "table.md", tables.as_markdown(findings, facts))
        write(self.path / "correlation.png", drawn(findings, goodness, accuracy, config.metric))
        return Result(findings=findings, facts=facts)

    def _reference(self, metric: str, chosen: Cells) -> Column:
        values = choice.accuracies(self.table, metric, chosen.entries)
        return Column(name=REFERENCE, direction="maximize", scores=np.tile(values, (self.config.seeds, 1)))


def read_correlation(path: Path) -> dict[str, Any]:
    """The manifest of the correlation in ``path``.

    :raises UserError: there is none, it cannot be read, or it is another command's.
    """
    return read_manifest(path, command="correlation", own=_OWN)


def _images_in_words(spec: NetworkSpec) -> str:
    return f"{spec.image_size[0]}x{spec.image_size[1]} images of {spec.classes} classes"
