"""The benchmark of accelerators, tried on the CPU; what it does with times and kernels, on times made up here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks.gpu import attacks, kernels, scoring, training
from benchmarks.gpu.__main__ import command, described, run
from benchmarks.gpu.kernels import Kernel, Watched, covered, is_matrix_product, kernels_in, use_of
from benchmarks.gpu.output import page, page_of, show
from benchmarks.gpu.plan import FULL, QUICK, Measurement, measurements
from benchmarks.gpu.tables import SECTIONS
from benchmarks.gpu.timing import Budget, Rounds
from nas.cli.printing import Terminal
from nas.training.learner import Learner

CPU = torch.device("cpu")


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_whole_benchmark_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "build" / "gpu.json"
    assert command(["--device", "cpu", "--quick", "--out", str(out)]) == 0
    said, found = capsys.readouterr().out, json.loads(out.read_text())
    assert f"page: {page_of(out)}" in said and found["skipped"] == [] and found["quick"] is True
    assert found["hardware"]["device"] == "cpu" and found["versions"]["torch"] and found["seconds"] > 0
    rows = found["rows"]
    planned = [(each.section, each.name) for each in measurements(QUICK, CPU)]
    assert sorted(planned) == sorted((section, row["name"]) for section, each in rows.items() for row in each)
    assert not [row for each in rows.values() for row in each if "error" in row]
    for row in rows["training"]:
        assert row["step_seconds"] * row["images_per_second"] == pytest.approx(row["batch"])
        assert 0 < row["images_per_second_low"] <= row["images_per_second"] <= row["images_per_second_high"]
        assert row["steps_timed"] == 2 and row["first_step_seconds"] > 0 <= row["start_up_seconds"]
        assert 0 < row["of_matrix_product"] < 1 and row["memory_gib"] is None
    for row in rows["scoring"]:
        assert row["seconds_per_candidate"] * row["candidates_per_second"] == pytest.approx(1)
        assert row["days_of_214"] * 86_400 == pytest.approx(row["seconds_of_214"])
        assert row["seconds_of_214"] / 214 == pytest.approx(row["seconds"] / row["candidates_timed"])
        assert 0 < row["first_step_seconds"] <= row["seconds"] and row["first_candidate_seconds"] > 0
    assert [row["candidates_timed"] for row in rows["scoring"]] == [3, 2, 2]
    (attacked,) = rows["attacks"]
    members = [attacked[f"{name}_seconds_of_1000"] for name in ("apgd_ce", "apgd_t", "fab_t", "square")]
    assert min(members) > 0 and sum(members) == pytest.approx(attacked["seconds_of_1000"])
    assert all(row["seconds"] > 0 and row["kernels"] is row["busy_share"] is None for row in rows["device"])
    assert rows["agreement"][0]["relative_difference"] == 0  # of the CPU from itself
    written = page_of(out).read_text()
    assert all(row["name"] in written for each in rows.values() for row in each)
    assert all(section.title.replace("'", "&#39;") in written for section in SECTIONS.values())
    assert "<script" not in written and "http" not in written


def test_the_first_call_and_the_warm_up_do_not_count() -> None:
    plan = Rounds(warm_up=4, count=3, seconds=1.0).plan()
    asked, each = [next(plan)], 0.0
    for seconds in (10.0, 3.4, 0.1, 1.0, 1.2, 0.8):  # the first; four, with 3 s for a graph; one; three rounds of ten
        try:
            asked.append(plan.send(seconds))
        except StopIteration as end:
            each = end.value.seconds
            found = end.value
    assert asked == [1, 4, 1, 10, 10, 10]
    assert each == pytest.approx(0.1) and (found.low, found.high) == pytest.approx((0.08, 0.12)) and found.units == 30
    assert found.first == 10.0 and found.start_up == pytest.approx(10 + 3.4 - 5 * 0.1)


def test_a_training_is_timed_by_whole_batches_without_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sizes = Clock(), []

    def step(self: Learner, images: torch.Tensor, labels: torch.Tensor, *more: Any) -> Any:
        clock.now += 0.25 if sizes else 10.0
        sizes.append(len(images))
        return torch.tensor(1.0), torch.zeros(len(images), 10)

    monkeypatch.setattr(Learner, "step", step)
    case = training.Case(cell="ROBUST_ZCP", preset="table", size=(2, 3), batch=48)
    steps = training.Steps(case, CPU, clock)
    found = steps.timed(Rounds(warm_up=2, count=3, seconds=1.0))
    assert found.seconds == found.low == found.high == 0.25 and found.first == 10.0 and found.units == 12
    assert sizes == [48] * (1 + 2 + 1 + 12)  # 1,442 images are no multiple of 48
    assert steps.learner.model.network.drop_path_probability == pytest.approx(0.1)  # of 0.2, in the middle


def test_a_search_is_timed_step_by_step_until_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sizes = Clock(), []

    def scored(executor: Any, scorer: Any, candidates: Any) -> dict[int, float]:
        clock.now += len(candidates) * (0.5 if sizes else 8.0)
        sizes.append(len(candidates))
        return {}

    monkeypatch.setattr(scoring, "scored", scored)
    monkeypatch.setattr(scoring, "published_candidates", lambda count: tuple(range(count)))
    case = scoring.Case(proxy="robust", size=(2, 3), candidates=214, step=20)
    found = scoring.scoring(case, CPU, limit=30.0, clock=clock)
    assert sizes == [1, 20, 20, 20]  # 8 s, then 10 s each
    assert found["first_candidate_seconds"] == 8.0 and found["candidates_timed"] == 60 and found["seconds"] == 30.0
    assert found["seconds_per_candidate"] == 0.5 and found["seconds_of_214"] == 107.0


def test_autoattack_is_estimated_from_what_an_iteration_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks.Case, "seconds", lambda self, *given: [[99.0] * 4, [7 + 2 * 2] * 4, [7 + 2 * 8] * 4])
    found = attacks.attacking(attacks.Case(cell="ROBUST_ZCP", size=(2, 3), batch=10), CPU)
    assert found["apgd_ce_seconds_of_1000"] == found["fab_t_seconds_of_1000"] == (7 + 2 * 100) * 100
    assert found["square_seconds_of_1000"] == (7 + 2 * 200) * 100
    assert found["seconds_of_1000"] == 3 * 20_700 + 40_700 and found["images_timed"] == 10


def test_every_preset_size_batch_and_precision_that_matters_is_measured_once() -> None:
    planned = [(each.section, each.name) for each in measurements(FULL, torch.device("cuda"))]
    assert len(set(planned)) == len(planned)
    trainings = {name for section, name in planned if section == "training"}
    wanted = [("16 x 8", batch) for batch in (128, 512, 1024)] + [("36 x 20", batch) for batch in (128, 512)]
    for size, batch in wanted:
        for precision in ("float32", "bfloat16"):
            assert f"tiny_robustbench, {size}, batch {batch}, {precision}" in trainings
    assert {"table, 36 x 20, batch 128, float32", "quick, 16 x 8, batch 128, float32"} < trainings
    assert planned[3] == ("scoring", "robust_released, 36 x 20")  # the paper's search comes first


def made(name: str, make: Callable[[Any], dict[str, Any]]) -> Measurement:
    return Measurement("matrix_product", name, make)


@pytest.fixture
def found() -> dict[str, Any]:
    return described(CPU, "ROBUST_ZCP", quick=True, seconds=5.0)


def test_what_there_is_no_time_for_is_skipped_and_named(
    found: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    clock, kept = Clock(), []

    def takes(seconds: float) -> Callable[[Any], dict[str, Any]]:
        def make(rows: Any) -> dict[str, Any]:
            clock.now += seconds
            return {"size": 2, "rate": 1e12}

        return make

    planned = [made("one", takes(4.0)), made("two", takes(2.0)), made("three", takes(1.0)), made("four", takes(1.0))]
    assert not run(found, planned, Budget(5.0, clock), lambda: kept.append(clock.now), lambda text: None)
    assert [row["name"] for row in found["rows"]["matrix_product"]] == ["one", "two"]
    assert found["skipped"] == ["matrix_product: three", "matrix_product: four"] and found["seconds"] == 6.0
    assert kept == [4.0, 6.0, 6.0]
    show(found, Terminal(width=150))
    sentence = "matrix_product: three; matrix_product: four"
    assert f"skipped after 5 s (--budget): {sentence}" in capsys.readouterr().out
    assert f"5 s that the run may take were over: {sentence}" in page(found)


@pytest.mark.parametrize(
    ("error", "failed"),
    [(RuntimeError("CUDA error: an illegal memory access"), True), (ValueError("no such kernel"), True),
     (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False)],
)  # fmt: skip
def test_a_measurement_that_fails_ends_no_other(found: dict[str, Any], error: Exception, failed: bool) -> None:
    def fails(rows: Any) -> dict[str, Any]:
        raise error

    planned = [made("bad", fails), made("good", lambda rows: {"size": 2, "rate": 1e12})]
    assert run(found, planned, Budget(math.inf), lambda: None, lambda text: None) is failed
    bad, good = found["rows"]["matrix_product"]
    assert bad == {"name": "bad", "error": f"{type(error).__name__}: {error}"} and good["rate"] == 1e12
    assert f"not measured: {bad['error']}" in page(found)


def test_the_device_is_busy_while_at_least_one_kernel_runs() -> None:
    overlapping = [Kernel("a", 5, 7), Kernel("b", 0, 4), Kernel("c", 2, 3), Kernel("d", 3, 6)]
    assert covered(overlapping) == 7.0 and covered([]) == 0.0


def test_the_use_of_the_device_by_kind_of_kernel() -> None:
    names = ["void cudnn::cnn::conv2d_grouped_direct_kernel<int>", "sm80_xmma_fprop_implicit_gemm_tf32f32_nhwc",
             "nvjet_tst_64x32_64x16_4x1_v_bz_TNT", "void at::native::elementwise_kernel<4>"]  # fmt: skip
    use = use_of([Kernel(names[i], 100.0 * i, 100.0 * i + took) for i, took in enumerate((50, 10, 30, 10))], 2)
    assert use["busy_seconds"] == pytest.approx(50e-6) and use["kernels"] == 2.0
    assert use["convolution_share"] == 0.6 and use["matrix_product_share"] == 0.3
    assert [each["share"] for each in use["largest"]] == [0.5, 0.3, 0.1, 0.1]
    assert not is_matrix_product(names[1]) and is_matrix_product("cutlass_80_tensorop_s1688gemm_128x64_nn_align4")


def test_kernels_are_told_from_the_profilers_other_events() -> None:
    def events() -> Iterator[SimpleNamespace]:
        for name, kind, annotation in (("kernel", DeviceType.CUDA, False), ("cudaLaunchKernel", DeviceType.CPU, False),
                                       ("Optimizer.step", DeviceType.CUDA, True)):  # fmt: skip
            time = SimpleNamespace(start=1.0, end=3.0)
            yield SimpleNamespace(name=name, device_type=kind, is_user_annotation=annotation, time_range=time)

    assert kernels_in(events()) == [Kernel("kernel", 1.0, 3.0)]


def test_the_profiler_looks_at_what_is_inside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    time = SimpleNamespace(start=0.0, end=2e6)
    profiler = SimpleNamespace(
        start=lambda: happened.append("start"), stop=lambda: happened.append("stop"),
        events=lambda: [SimpleNamespace(name="conv", device_type=DeviceType.CUDA, time_range=time)],
    )  # fmt: skip
    monkeypatch.setattr(kernels, "profile", lambda activities: profiler)
    monkeypatch.setattr(kernels, "wait", lambda device: happened.append("wait"))
    with Watched(torch.device("cuda")) as watched:
        happened.append("work")
    assert happened == ["wait", "start", "work", "wait", "stop"]
    assert watched.use(2)["busy_seconds"] == 1.0


def test_a_cpu_has_no_kernels() -> None:
    with Watched(CPU) as watched:
        torch.ones(2).sum()
    use = watched.use(1)
    assert use.pop("largest") == [] and set(use.values()) == {None}
