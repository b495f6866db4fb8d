"""A scorer that does to its worker whatever a test asks for."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from nas.executors.candidates import Candidate
from nas.searching.scoring import Scorer
from proxies import get_proxy
from search_spaces.base import NetworkSpec
from searchers.base import Trial
from tests.searchers.toy_space import Digits, ToySpace

COUNT = 24


def candidates(count: int = COUNT) -> list[Candidate[Digits]]:
    """Different cells of the toy space."""
    space = ToySpace()
    genotypes = [Digits((number // 10 % 10, number % 10, number // 100)) for number in range(count)]
    return [Candidate(id, space.canonical(genotype), genotype) for id, genotype in enumerate(genotypes)]


class FaultyScorer(Scorer[Digits]):
    """``faults``: what happens to the worker of a candidate, by its id. Those that end in ``once`` happen once.

    :param folder: where workers leave the marks of what happened.
    """

    def __init__(self, folder: Path, faults: dict[int, str] | None = None, seconds: float = 0.0):
        spec = NetworkSpec(channels=2, layers=1)
        super().__init__(
            ToySpace(), spec, [get_proxy("params")], torch.zeros(2, 3, 4, 4), torch.zeros(2).long(), seed=0
        )
        self.folder = folder
        self.faults = faults or {}
        self.pause = seconds

    def __call__(self, candidate: Candidate[Digits]) -> Trial[Digits]:
        with open(self.folder / f"{candidate.id}.attempts", "a") as file:
            file.write(f"{os.getpid()}\n")
        fault = self.faults.get(candidate.id, "")
        if fault and not (fault.endswith(" once") and self.attempts(candidate.id) > 1):
            self._misbehave(fault)
        time.sleep(self.pause)
        return super().__call__(candidate)

    def attempts(self, id: int) -> int:
        path = self.folder / f"{id}.attempts"
        return len(path.read_text().split()) if path.exists() else 0

    def _misbehave(self, fault: str) -> Any:
        if fault.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.startswith("hang"):
            time.sleep(3600)
        elif fault.startswith("raise"):
            raise RuntimeError("outside of what the scorer catches")
        elif fault.startswith("allocate"):
            held = [torch.ones(2**26) for _ in range(40)]  # 10 GiB, page by page
            time.sleep(60)
            return held
        else:
            raise AssertionError(fault)


class SeeingScorer(FaultyScorer):
    """Also notes the processes of its workers, and which GPUs each of them sees."""

    def __call__(self, candidate: Candidate[Digits]) -> Trial[Digits]:
        (self.folder / f"{os.getpid()}.gpus").write_text(str(os.environ.get("CUDA_VISIBLE_DEVICES")))
        return super().__call__(candidate)

    def workers(self) -> dict[str, str]:
        """What each process that scored a candidate sees."""
        return {path.stem: path.read_text() for path in self.folder.glob("*.gpus")}
