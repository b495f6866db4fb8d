"""What runs on a CUDA device, against the same on the CPU: ``make gpu``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import proxies
from nas import Search, load
from nas.executors.candidates import Candidate
from nas.executors.local import LocalExecutor
from nas.executors.stacks import stacked
from nas.runs.architecture import read_steps
from nas.runs.directory import RunDirectory
from nas.searching.forward_pass import latency_ms, memory_mib
from nas.searching.scoring import Scorer
from nas.training import TrainConfig, Trainer
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from search_spaces.cells.operations import OPERATIONS, channels_last
from searchers import SEARCHERS, get_searcher
from searchers.base import Trial
from tests.nas.commands import timeless

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
NAMES = ("robust", "grad_norm", "snip", "fisher", "synflow", "naswot", "zen", "l2_norm", "croze", "az_expressivity")


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    """TF32 has ten bits: a comparison with the CPU does without."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_the_gradients_of_the_cpu(name: str, stride: int) -> None:
    torch.manual_seed(0)
    operation = OPERATIONS[name](8, stride).eval()
    images = channels_last(torch.randn(4, 8, 16, 16, dtype=torch.float64))

    def gradients(device: str, dtype: torch.dtype) -> list[torch.Tensor]:
        made, x = deepcopy(operation).to(device, dtype), images.to(device, dtype).requires_grad_()
        output = made(x)
        output.mul(torch.linspace(-1, 1, output.numel(), dtype=dtype, device=device).view_as(output)).sum().backward()
        return [each.grad.double().cpu() for each in (x, *made.parameters()) if each.grad is not None]

    torch.testing.assert_close(gradients("cuda", torch.float32), gradients("cpu", torch.float64), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("space_name", "cell"), [("darts", "ROBUST_ZCP"), ("nasbench201", "334413")])
def test_scores_are_those_of_the_cpu(space_name: str, cell: str) -> None:
    space = get_space(space_name)
    torch.manual_seed(0)
    network = space.build(space.parse(cell), NetworkSpec(channels=8, layers=6))
    images, labels = torch.rand(50, 3, 32, 32), torch.arange(50) % 10
    expected = proxies.score(network, images, labels, NAMES)
    found = proxies.score(network.cuda(), images.cuda(), labels.cuda(), NAMES)
    assert found == pytest.approx(expected, rel=1e-3)
    assert proxies.score(network, images, labels, NAMES) == pytest.approx(found, rel=1e-3)  # images follow the network


def test_a_stack_has_the_scores_of_the_cpu() -> None:
    space, proxy_names = get_space("darts"), ("robust", "grad_norm", "snip", "synflow", "naswot", "diverse_capacity")
    images, labels = torch.rand(32, 3, 32, 32), torch.arange(32) % 10
    cells = [space.sample(np.random.default_rng(seed)) for seed in range(8)]
    candidates = [Candidate(id, space.canonical(cell), cell) for id, cell in enumerate(cells)]

    def scores(device: str, stack: int) -> list[dict[str, float]]:
        made = [proxies.get_proxy(name) for name in proxy_names]
        scorer = Scorer(
            space, NetworkSpec(channels=8, layers=6), made, images, labels, seed=0, device=device, stack=stack
        )
        found = {trial.id: trial for trial in LocalExecutor(1).run(scorer, stacked(candidates, stack))}
        assert {trial.status for trial in found.values()} == {"ok"}
        return [found[id].scores for id in range(8)]

    expected = scores("cpu", 1)
    for stack in (1, 4, 8):
        for found, right in zip(scores("cuda", stack), expected, strict=True):
            assert found == pytest.approx(right, rel=5e-3)
    assert scores("cuda", 8) == scores("cuda", 8)


def test_a_search_and_a_training_run_on_the_device(tmp_path: Path) -> None:
    search = Search(
        budget=6, population=2, tournament=1, channels=8, layers=4, device="cuda", out=tmp_path / "run", report=False
    )
    result = search.run()
    assert [trial.status for trial in result.trials] == ["ok"] * 6
    config = TrainConfig(run=str(result.path), epochs=1, images=200, channels=8, layers=4, device="cuda")
    trained = Trainer(config, out=tmp_path / "run").run()
    assert 0 <= trained.best["validation_robust_accuracy"] <= 1


@pytest.mark.parametrize("searcher", [name for name in SEARCHERS if get_searcher(name).needs_material])
def test_a_supernet_is_searched_on_the_device(searcher: str, tmp_path: Path) -> None:
    search = Search(
        searcher=searcher, budget=2, channels=8, layers=3, device="cuda", out=tmp_path / "run", report=False
    )
    assert [trial.status for trial in search.run().trials] == ["ok"] * 2


def test_latency_and_memory_are_measured_on_the_device(tmp_path: Path) -> None:
    search = Search(
        searcher="nsga2", objective=("robust", "latency_ms", "memory_mib"), budget=4, population=2, channels=8,
        layers=3, device="cuda", out=tmp_path / "run", report=False,
    )  # fmt: skip
    result = search.run()
    assert all(trial.scores["latency_ms"] > 0 < trial.scores["memory_mib"] for trial in result.trials)
    assert result.best in result.front


@pytest.mark.parametrize("options", [{}, {"order": 2, "inner": "fgsm"}, {"gumbel": 10.0, "curvature_weight": 0.01}])
def test_a_supernet_is_trained_on_the_device_and_resumed(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, path = RunDirectory.write_state, tmp_path / "run"

    def interrupted(self: RunDirectory[Any], state: dict[str, Any], trials: int, covers: str) -> None:
        if trials == 2:
            raise KeyboardInterrupt
        write(self, state, trials, covers)

    def search(**more: Any) -> None:
        words = {"channels": 4, "layers": 3, "search_images": 64, "epochs": 2, "budget": 3, "report": False, **options}
        Search("darts", "darts", out=path, device="cuda", **words, **more).run()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunDirectory, "write_state", interrupted)
        search()
    first, _ = read_steps(path)
    search(resume=True)
    steps = read_steps(path)
    assert len(steps) == 2 and steps[0] == first and all(0 < step["train_loss"] < 10 for step in steps)


def test_a_forward_pass_is_measured_on_the_device() -> None:
    network = get_space("darts").build(get_space("darts").parse("ROBUST_ZCP"), NetworkSpec(channels=8, layers=6)).eval()
    images = torch.rand(4, 3, 32, 32)
    expected = memory_mib(network, images)
    assert memory_mib(network.cuda(), images.cuda()) == pytest.approx(expected, rel=0.02)
    products = torch.nn.Sequential(*(torch.nn.Linear(8192, 8192, bias=False) for _ in range(8))).cuda()
    median, _ = latency_ms(products, torch.rand(8192, 8192, device="cuda"))
    assert median > 5  # 9 * 10^12 operations: only who does not wait for them would measure less


def test_a_resumed_search_has_the_history_of_one_that_was_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, paths = RunDirectory.append, [tmp_path / "whole", tmp_path / "interrupted"]

    def interrupted(self: RunDirectory[Any], trial: Trial[Any]) -> None:
        if self.count_trials() == 11:  # in the middle of the second step
            raise KeyboardInterrupt
        append(self, trial)

    def search(path: Path, **more: Any) -> None:
        words = {"population": 4, "tournament": 2, "channels": 8, "layers": 4, "candidates_per_step": 8, "budget": 20}
        Search("darts", proxies=["robust", "grad_norm"], out=path, device="cuda", report=False, **words, **more).run()

    search(paths[0])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunDirectory, "append", interrupted)
        search(paths[1])
    assert len(timeless(paths[1])) == 11
    search(paths[1], resume=True)
    assert timeless(paths[1]) == timeless(paths[0])


def test_a_model_goes_from_the_device_to_a_cpu_and_back(tmp_path: Path) -> None:
    config = TrainConfig(cell="ROBUST_ZCP", epochs=2, images=128, channels=8, layers=4, device="cuda")
    images = torch.rand(16, 3, 32, 32)

    def logits() -> list[torch.Tensor]:
        model = load(tmp_path)
        assert {each.device.type for each in model.parameters()} == {"cpu"}
        with torch.no_grad():
            return [model(images), model.to("cuda")(images.to("cuda")).cpu()]

    Trainer(config, out=tmp_path).run(until=1)
    here, there = logits()
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)
    result = Trainer(dataclasses.replace(config, device="cpu"), out=tmp_path, resume=True).run()
    assert [epoch["epoch"] for epoch in result.history] == [1, 2]
    torch.testing.assert_close(*logits(), rtol=1e-3, atol=1e-3)
