"""The front of a search with several objectives on its page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.nas.report.pages import check_page, page_of, trials_of, write_run

OBJECTIVES = [
    {"name": "robust", "direction": "maximize"},
    {"name": "params", "direction": "minimize"},
    {"name": "latency_ms", "direction": "minimize"},
]


def trials(count: int = 30) -> list[dict[str, Any]]:
    """The more robust, the more parameters and the slower; every third one is dominated."""
    made = trials_of(count)
    for trial in made:
        place = trial["id"] % 10 + 1
        worse = 5.0 if trial["id"] % 3 == 0 else 0.0
        latency_ms = place + trial["id"] / 1000
        trial["scores"] = {"robust": 10 * place**0.5 - worse, "params": 1000.0 * place, "latency_ms": latency_ms}
    return made


def points(chart: str) -> dict[str, tuple[float, float]]:
    """By text of the title, where the point is drawn, in pixels."""
    found = re.findall(r'<use [^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*><title>([^<]*)</title></use>', chart)
    return {text: (float(x), float(y)) for x, y, text in found}


@pytest.mark.parametrize("count", [2, 3])
def test_each_point_of_the_chart_says_its_values(count: int, tmp_path: Path) -> None:
    made = trials()
    text = page_of(write_run(tmp_path, made, objectives=OBJECTIVES[:count]))
    page = check_page(text)
    section = text[text.index('<section id="front">') : text.index("How the search went")]
    charts = section.split("<svg ")[1:]
    assert len(charts) == count - 1
    for chart, name in zip(charts, ("params", "latency_ms"), strict=False):
        drawn = points(chart)
        assert len(drawn) == 30 and sum("(knee)" in each for each in drawn) == 1
        for text, (x, y) in drawn.items():  # noqa: B007
            number = int(re.match(r"candidate (\d+)", text)[1])  # type: ignore[index]
            assert f"robust {made[number]['scores']['robust']:#.5g}".rstrip(".") in text
        by_id = {int(text.split()[1].rstrip(":")): place for text, place in drawn.items()}
        for one in range(29):
            a, b = made[one]["scores"], made[one + 1]["scores"]
            assert (a[name] < b[name]) == (by_id[one][0] < by_id[one + 1][0])
            assert (a["robust"] < b["robust"]) == (by_id[one][1] > by_id[one + 1][1])  # pixels count downwards
    assert "are dominated by no other" in page.text and "Hypervolume: the front dominates" in page.text
    assert "with several objectives the best cell is the knee of their front" in page.text
    assert "The cells of the front" in page.text and "mean rank" not in page.text


def test_the_page_says_when_best_json_is_not_the_knee(tmp_path: Path) -> None:
    made = trials()
    run = write_run(tmp_path, made, best=made[0], objectives=OBJECTIVES)
    assert "best.json names candidate 0; by trials.jsonl, candidate" in check_page(page_of(run)).text


def test_one_objective_ranks_alone(tmp_path: Path) -> None:
    made = trials()
    manifest = {"objectives": OBJECTIVES[1:2], "proxies": [{"name": "robust", "direction": "maximize"}]}
    page = check_page(page_of(write_run(tmp_path, made, **manifest)))
    assert "they are ranked by params" in page.text and "Candidate 0, first of 30 distinct candidates" in page.text
    assert not any(attributes.get("id") == "front" for _, attributes in page.tags)


def test_sizes_alone(tmp_path: Path) -> None:
    made = trials()
    for trial in made:
        trial["scores"] = {"params": trial["params"], "macs": trial["params"] % 7}
    sizes = [{"name": name, "direction": "minimize"} for name in ("params", "macs")]
    page = check_page(page_of(write_run(tmp_path, made, objectives=sizes, proxies=[])))
    assert "The cells of the front" in page.text and "How the search went" not in page.text


@pytest.mark.parametrize("few", [0, 1, 2])
def test_fronts_of_few_candidates(few: int, tmp_path: Path) -> None:
    check_page(page_of(write_run(tmp_path, trials(few), objectives=OBJECTIVES)))
