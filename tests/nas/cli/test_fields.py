"""Types of options, wherever they come from."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.correlation.config import CorrelationConfig
from nas import Search
from nas.attacking.config import AttackConfig
from nas.attacking.transfer import TransferConfig
from nas.errors import UserError
from nas.models.export_file import ExportConfig
from nas.searching.config import SearchConfig
from nas.training.config import TrainConfig


def test_numbers_of_numpy_are_numbers() -> None:
    search = SearchConfig.of(
        budget=np.int64(5), seed=np.uint8(3), layers=np.int32(2), population=np.int64(4), tournament=np.int8(2),
        download=np.bool_(False), cpus_per_worker=np.float64(1.0), data_dir=Path("data"),
    )  # fmt: skip
    assert search == SearchConfig.of(budget=5, seed=3, layers=2, population=4, tournament=2)
    train = TrainConfig(
        cell="DARTS_V2", epochs=np.int64(3), epsilon=np.float32(0.25), learning_rate=np.float64(0.1),
        schedule="multistep", milestones=np.array([1, 2]), flip=np.bool_(True), weight_decay=Fraction(1, 4),
    )  # fmt: skip
    assert train.epochs == 3 and train.epsilon == 0.25 and train.milestones == (1, 2) and train.flip is True
    attack = AttackConfig(run="x", epsilon=np.float64(0.5), samples=np.int64(7), seed=np.int64(1), batch=np.int16(2))
    correlation = CorrelationConfig(images=np.int64(4), seeds=np.int64(2))
    for config in (search, train, attack, correlation):
        json.dumps(config.to_json())


def test_a_search_with_numbers_of_numpy(somewhere_else: Path) -> None:
    result = Search(
        "darts", "regularized_evolution", "params", budget=np.int64(3), population=np.int64(2), tournament=np.int64(1),
        channels=np.int64(2), layers=np.int64(2), seed=np.int64(1), max_params=np.int64(10**9), out=Path("run"),
        report=False,
    ).run()  # fmt: skip
    stored = json.loads((result.path / "manifest.json").read_text())["configuration"]
    assert stored["budget"] == 3 and stored["population"] == 2


@pytest.mark.parametrize(
    "options",
    [
        {"dataset": 5}, {"dataset": None}, {"device": 5}, {"require": 5}, {"require": [5]}, {"table": 5}, {"out": 5},
        {"table": ["x"]}, {"metric": 5}, {"budget": np.bool_(True)}, {"budget": np.float64(2.5)}, {"budget": "3"},
        {"budget": 10**5000}, {"seed": 1.0}, {"seed": 10**5000}, {"population": True}, {"tournament": 1.5},
        {"download": "yes"}, {"download": 1}, {"executor": 5}, {"searcher": 5}, {"space": 5}, {"proxies": 5},
        {"proxies": [5]}, {"image_size": (3, 3)}, {"layers": float("nan")}, {"layers": 10**8}, {"channels": 10**12},
        {"cpus_per_worker": "1"}, {"chunk_seconds": 10**400}, {"data_dir": 5}, {"resume": "yes"}, {"report": "no"},
        {"max_params": 1e6}, {"sampler": 5, "searcher": "random"},
    ],
    ids=lambda options: " ".join(options),
)  # fmt: skip
def test_a_search_refuses_values_of_other_types_in_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        _ = Search(**{"channels": 2, "layers": 2, "budget": 2, "tournament": 1, "population": 2, **options}).source
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (TrainConfig, {"cell": 5}, "--cell must be a text, got 5"),
        (TrainConfig, {"run": 5}, "--run must be a text, got 5"),
        (TrainConfig, {"cell": "DARTS_V2", "dataset": 5}, "--dataset must be a text, got 5"),
        (TrainConfig, {"cell": "DARTS_V2", "batch_size": 10**12}, "--batch-size must be at most 1000000000"),
        (TrainConfig, {"cell": "DARTS_V2", "layers": 10**9}, "--layers must be at most 1000"),
        (TrainConfig, {"cell": "DARTS_V2", "epochs": 10**12}, "--epochs must be at most"),
        (TrainConfig, {"cell": "DARTS_V2", "threads": 10**9}, "--threads must be at most 4096"),
        (TrainConfig, {"cell": "DARTS_V2", "learning_rate": 10**400}, "--learning-rate must be a finite number"),
        (AttackConfig, {"run": "x", "attack": 5}, "--attack must be a text or a list of texts, got 5"),
        (AttackConfig, {"run": "x", "samples": True}, "--samples must be a whole number, got True"),
        (AttackConfig, {"run": "x", "norm": "linf"}, "--norm must be Linf or L2, got 'linf'"),
        (AttackConfig, {"run": "x", "device": 0}, "--device must be a text, got 0"),
        (TransferConfig, {"model": 5}, "--model must be a text or a list of texts, got 5"),
        (ExportConfig, {"run": "x", "format": "tf"}, "--format must be onnx or torch_export or safetensors, got 'tf'"),
        (CorrelationConfig, {"table": 5}, "--table must be a text, got 5"),
        (CorrelationConfig, {"proxy": 5}, "--proxy must be a text or a list of texts, got 5"),
    ],
)
def test_other_configurations(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)
