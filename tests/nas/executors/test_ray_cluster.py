"""Machines that leave and join, memory that runs out, drivers that end: on real clusters of one machine."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nas.errors import OutOfMemory
from nas.executors.ray import RayCrew
from nas.executors.supervised import SupervisedExecutor
from nas.search import main
from searchers.base import Trial
from tests.nas.commands import lines_in, process
from tests.nas.commands import timeless as timeless_file
from tests.nas.executors.conftest import ray_processes
from tests.nas.executors.faulty import FaultyScorer, candidates
from tests.nas.executors.test_ray import timeless

NOTICED = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 2}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that only drives, and one machine of 2 cores."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": NOTICED, "include_dashboard": False}
    )
    first = cluster.add_node(num_cpus=2)
    yield cluster, first
    ray.shutdown()
    cluster.shutdown()


def test_machines_leave_and_join(cluster: Any, tmp_path: Path) -> None:
    cluster, first = cluster
    count = 150
    trials: list[Trial[Any]] = []
    nodes = []
    with SupervisedExecutor(RayCrew(cluster.address, None, 1.0, 0.0), chunk_seconds=0.05) as executor:
        for trial in executor.run(FaultyScorer(tmp_path, seconds=0.1), candidates(count)):
            trials.append(trial)
            if len(trials) == 20:
                cluster.add_node(num_cpus=1)
            if len(trials) == 40:
                cluster.remove_node(first, allow_graceful=False)
        nodes = executor.facts()["nodes"]
        assert executor.lost >= 1
    (tmp_path / "calm").mkdir()
    assert timeless(trials) == timeless(map(FaultyScorer(tmp_path / "calm"), candidates(count)))
    assert sorted(node["cpus"] for node in nodes) == [0.0, 1.0, 2.0]
    assert len({path.read_text().split()[-1] for path in tmp_path.glob("*.attempts")}) >= 2


@pytest.fixture
def scarce_memory() -> Iterator[None]:
    """A private cluster whose monitor ends a worker once 3 GiB more of the machine's memory are used than now."""
    import ray

    psutil = importlib.import_module("psutil")  # that of Ray, which its import makes known
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + 3 * 2**30) / memory.total
    if threshold > 0.9:
        pytest.skip(f"needs 3 GiB of free memory and more, of {memory.total >> 30} GiB {memory.percent} % are in use")
    system = {"memory_usage_threshold": threshold, "memory_monitor_refresh_ms": 100}
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27,
        _system_config=system,
    )  # fmt: skip
    yield
    ray.shutdown()


def test_a_worker_out_of_memory(scarce_memory: None, tmp_path: Path) -> None:
    scorer = FaultyScorer(tmp_path, {2: "allocate"})
    with SupervisedExecutor(RayCrew(None, 1, 1.0, 0.0), chunk_seconds=0.01) as executor:
        trials: list[Trial[Any]] = []
        with pytest.raises(OutOfMemory, match="worker out of memory"):
            for trial in executor.run(scorer, candidates(6)):
                trials.append(trial)
    assert sorted(trial.id for trial in trials) == [0, 1, 3, 4, 5] and {trial.status for trial in trials} == {"ok"}


LONG = shlex.split(
    "--searcher regularized_evolution --population 8 --tournament 3 --channels 2 --layers 2 --ntk-images 10"
    " --curvature-images 2 --budget 40 --seed 4 --no-report --candidates-per-step 8"
)
RAY = ["--executor", "ray", "--workers", "2", "--chunk-seconds", "0.05"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert main([*LONG, "--quiet", "--out", str(path)]) == 0
    return path


def begun(path: Path, lines: int, *words: str) -> subprocess.Popen[str]:
    search = process(*LONG, *RAY, "--out", str(path), *words, start_new_session=True)
    _until(lambda: lines_in(path / "trials.jsonl") >= lines or search.poll() is not None, 120)
    assert search.poll() is None, search.communicate()[1]
    return search


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def test_a_killed_driver_is_resumed_and_leaves_no_process(uninterrupted: Path, tmp_path: Path) -> None:
    before, path = ray_processes(), tmp_path / "run"
    search = begun(path, 10)
    search.kill()
    search.communicate()
    assert 10 <= lines_in(path / "trials.jsonl") < 40
    assert main(["--resume", str(path), "--quiet", "--no-report"]) == 0
    assert timeless_file(path) == timeless_file(uninterrupted)
    assert _until(lambda: not ray_processes() - before, 100)  # Ray's agents seek their dead cluster for a minute


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_driver_says_how_to_go_on(number: signal.Signals, uninterrupted: Path, tmp_path: Path) -> None:
    before, path = ray_processes(), tmp_path / "run"
    search = begun(path, 5)
    search.send_signal(number)
    out, err = search.communicate(timeout=60)
    assert search.returncode == 130 and out == "" and "Traceback" not in err, err
    assert f"to go on: python -m nas.search --resume {path}" in err
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["status"] == "interrupted" and manifest["executor"]["nodes"]
    assert _until(lambda: not ray_processes() - before, 100)  # as above
    assert main(["--resume", str(path), "--executor", "local", "--quiet", "--no-report"]) == 0
    assert timeless_file(path) == timeless_file(uninterrupted)


def test_a_private_cluster_is_private_and_its_end_is_told(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    psutil = importlib.import_module("psutil")  # as above

    monkeypatch.delenv("RAY_AUTH_MODE")  # of the tests; without it, the cluster asks for a token
    path = tmp_path / "run"
    search = begun(path, 5)
    processes = psutil.Process(search.pid).children(recursive=True)
    workers = [each for each in processes if each.name().startswith("ray::")]
    for worker in workers:
        worker.suspend()  # the search cannot end before it has noticed
    (gcs,) = [each for each in processes if each.name() == "gcs_server"]
    sockets = [each for process in (psutil.Process(search.pid), *processes) for each in process.net_connections("inet")]
    listening = [each.laddr.ip.rpartition(":")[2] for each in sockets if each.status == "LISTEN"]
    assert len(listening) >= 4 and set(listening) == {"127.0.0.1"}
    assert gcs.environ()["RAY_AUTH_MODE"] == "token" and len(gcs.environ()["RAY_AUTH_TOKEN"]) == 64
    (log,) = [word.partition("=")[2] for word in gcs.cmdline() if word.startswith("--log_dir=")]
    folder = Path(log).parents[2].stat()
    assert folder.st_mode & 0o777 == 0o700 and folder.st_uid == os.getuid()
    gcs.kill()
    try:
        out, err = search.communicate(timeout=120)
    finally:
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
    assert len(workers) >= 2
    assert search.returncode == 1 and out == "" and "Traceback" not in err, err
    said = err.splitlines()[-1]
    assert said.startswith("error: the Ray cluster has ended: its head does not answer at 127.0.0.1:")
    assert f"to go on: python -m nas.search --resume {path}" in said
    assert json.loads((path / "manifest.json").read_text())["status"] == "interrupted"
    assert main(["--resume", str(path), "--executor", "local", "--quiet", "--no-report"]) == 0
    assert timeless_file(path) == timeless_file(uninterrupted)
