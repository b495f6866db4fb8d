from __future__ import annotations

import json
from typing import Any

import pytest

from nas.cli.fields import differences
from nas.errors import UserError
from nas.searching.config import SearchConfig

# options, the flag that the error names, the value it repeats
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"budget": 0}, "--budget", "0"),
    ({"budget": -3}, "--budget", "-3"),
    ({"budget": 2.5}, "--budget", "2.5"),
    ({"budget": "many"}, "--budget", "many"),
    ({"budget": None}, "--budget", "None"),
    ({"budget": True}, "--budget", "True"),
    ({"channels": 0}, "--channels", "0"),
    ({"layers": 0}, "--layers", "0"),
    ({"ntk_images": 0}, "--ntk-images", "0"),
    ({"curvature_images": 0}, "--curvature-images", "0"),
    ({"population": 0, "tournament": 0}, "--population", "0"),
    ({"tournament": 0}, "--tournament", "0"),
    ({"tournament": 51}, "--tournament", "51"),
    ({"candidates_per_step": 0}, "--candidates-per-step", "0"),
    ({"max_draws": 0}, "--max-draws", "0"),
    ({"threads": 0}, "--threads", "0"),
    ({"max_params": 0}, "--max-params", "0"),
    ({"max_macs": -1}, "--max-macs", "-1"),
    ({"image_size": 0}, "--image-size", "0"),
    ({"seed": -1}, "--seed", "-1"),
    ({"seed": 2**63}, "--seed", str(2**63)),
    ({"seed": 0.5}, "--seed", "0.5"),
    ({"proxy": ()}, "--proxy", "none"),
    ({"proxy": ("params", "params")}, "--proxy", "params"),
]


@pytest.mark.parametrize(("options", "flag", "value"), BAD, ids=[str(options) for options, _, _ in BAD])
def test_a_value_out_of_bounds_is_named_in_one_line(options: dict[str, Any], flag: str, value: str) -> None:
    with pytest.raises(UserError) as error:
        SearchConfig.of(**options)
    assert flag in str(error.value) and value in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [{"budget": 1}, {"seed": 2**63 - 1}, {"threads": None}, {"tournament": 50}],
)
def test_values_on_the_bounds_are_taken(options: dict[str, Any]) -> None:
    SearchConfig.of(**options)


def test_a_single_name_is_a_list_of_one() -> None:
    config = SearchConfig(proxy="params", require="normal.skip_connect == 2")
    assert config.proxy == ("params",) and config.require == ("normal.skip_connect == 2",)


def test_json_round_trip() -> None:
    config = SearchConfig.of(proxy=("params", "macs"), seed=4, require=("normal.skip_connect == 2",), max_params=5)
    assert SearchConfig.of(**json.loads(json.dumps(config.to_json()))) == config


def test_differences_name_what_changes_the_history() -> None:
    stored = SearchConfig().to_json()
    assert differences(stored, SearchConfig()) == []
    assert differences(stored, SearchConfig(threads=7, data_dir="elsewhere", download=True)) == []
    changed = SearchConfig(seed=1, max_params=9, proxy=("params",))
    assert differences(stored, changed) == [
        "--proxy ['params'] (was ['robust'])", "--seed 1 (was 0)", "--max-params 9 (was None)",
    ]  # fmt: skip
    assert differences({name: value for name, value in stored.items() if name != "seed"}, SearchConfig()) == [
        "--seed 0 (was None)"
    ]
