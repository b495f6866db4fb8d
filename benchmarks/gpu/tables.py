"""What is shown of the figures, on the terminal and on the page: one table for each section, from its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
NONE = "\N{EN DASH}"  # where there is nothing to measure


@dataclass(frozen=True)
class Column:
    """``shown`` formats the row's value under ``key``; a value of None is shown as a dash."""

    title: str
    key: str
    shown: Callable[[Any], str] = str

    def of(self, row: Row) -> str:
        return NONE if row.get(self.key) is None else self.shown(row[self.key])


@dataclass(frozen=True)
class Section:
    """``text`` says how the rows were measured."""

    title: str
    text: str
    columns: tuple[Column, ...]


def number(value: float) -> str:
    """Three significant digits, or all digits before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.2e}"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.1f} %"


def trillions(value: float) -> str:
    return number(value / 1e12)


def milliseconds(value: float) -> str:
    return number(1000 * value)


#: every section in the order in which it is shown
SECTIONS: dict[str, Section] = {
    "training": Section(
        "Adversarial training",
        "Steps of an epoch as nas.train runs it, with augmentation, attack, loss and update; all batches are whole."
        " Images a second are the median of three rounds in the steady state, and their least and greatest. Start-up is"
        " what the first seven steps took beyond as many later ones (planning, capture of graphs); the network is made"
        " before. The share is of the rate of a matrix product in the format of the convolutions. Hours:"
        " the preset's epochs on CIFAR-10's 49,000 images, without validation.",
        (
            Column("training", "name"),
            Column("images/s", "images_per_second", number),
            Column("least", "images_per_second_low", number),
            Column("greatest", "images_per_second_high", number),
            Column("ms a step", "step_seconds", milliseconds),
            Column("made in, s", "make_seconds", number),
            Column("first step, s", "first_step_seconds", number),
            Column("start-up, s", "start_up_seconds", number),
            Column("of matrix product", "of_matrix_product", percent),
            Column("hours", "training_hours", number),
            Column("memory, GiB", "memory_gib", number),
        ),
    ),
    "scoring": Section(
        "Scoring untrained networks",
        "Cells of the paper's search (Feng et al., ICLR 2025): those of seeds 3000 to 3999 with two skip connections in"
        " the normal cell. Its 214 candidates, at 36 channels and 20 layers, took the authors 1,487 s = 0.0172"
        " GPU-days. The first"
        " candidate is scored alone, with the loading of libraries; seconds a candidate are those of the steps after"
        " the first one. 214 candidates: all steps, scaled where fewer were timed.",
        (
            Column("search", "name"),
            Column("images", "ntk_images"),
            Column("timed", "candidates_timed"),
            Column("at a time", "step"),
            Column("s a candidate", "seconds_per_candidate", number),
            Column("candidates/s", "candidates_per_second", number),
            Column("first, s", "first_candidate_seconds", number),
            Column("first step, s", "first_step_seconds", number),
            Column("214 candidates, s", "seconds_of_214", number),
            Column("GPU-days", "days_of_214", "{:.5f}".format),
        ),
    ),
    "attacks": Section(
        "AutoAttack",
        "APGD-CE, APGD-T, FAB-T (100 iterations) and Square (5,000 queries) on an untrained network that is certain of"
        " one class: every member attacks every image to the end, so this is the longest that it can take. With a"
        " network of which half is broken it is less. Estimated, after a warm-up, from 8 of the 100 iterations and 200"
        " of the queries.",
        (
            Column("network", "name"),
            Column("images timed", "images_timed"),
            Column("1,000 images, s", "seconds_of_1000", number),
            Column("APGD-CE", "apgd_ce_seconds_of_1000", number),
            Column("APGD-T", "apgd_t_seconds_of_1000", number),
            Column("FAB-T", "fab_t_seconds_of_1000", number),
            Column("Square", "square_seconds_of_1000", number),
            Column("warm-up, s", "warm_up_seconds", number),
        ),
    ),
    "device": Section(
        "What the device does",
        "By torch's profiler: the time in which at least one kernel runs, as a share of the time that the same work"
        " takes without the profiler, and the shares of the kernels' time by their names. Matrix products are 1x1"
        " convolutions, and the classifier.",
        (
            Column("work", "name"),
            Column("unit", "unit"),
            Column("ms", "seconds", milliseconds),
            Column("busy, ms", "busy_seconds", milliseconds),
            Column("busy", "busy_share", percent),
            Column("kernels", "kernels", number),
            Column("convolution", "convolution_share", percent),
            Column("matrix product", "matrix_product_share", percent),
        ),
    ),
    "agreement": Section(
        "Scores compared with the CPU's",
        "The greatest relative difference of a candidate's score from the CPU's, with the TF32 convolutions that torch"
        " uses by default, and without.",
        (
            Column("search", "name"),
            Column("candidates", "candidates"),
            Column("difference", "relative_difference", "{:.1e}".format),
            Column("without TF32", "relative_difference_without_tf32", "{:.1e}".format),
        ),
    ),
    "matrix_product": Section(
        "Matrix products",
        "The rate of a product of two square matrices.",
        (
            Column("format", "name"),
            Column("size", "size", number),
            Column("TFLOP/s", "rate", trillions),
        ),
    ),
}


def first_with(rows: Sequence[Row], key: str, **wanted: Any) -> Row:
    """The first row that has a value under ``key``, and these values; empty if there is none."""
    return next((row for row in rows if row.get(key) is not None and wanted.items() <= row.items()), {})


def key_figures(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What a reader asks for first: name, value and explanation of each."""
    rows = found["rows"]
    facts = []
    search = first_with(rows["scoring"], "seconds_of_214", proxy="robust_released")
    if search:
        timed = search["candidates_timed"]
        word = "all of them timed" if timed == 214 else f"{timed} of them timed"
        facts.append(("the paper's search, s", number(search["seconds_of_214"]), f"214 candidates, {word}"))
        facts.append(("GPU-days", f"{search['days_of_214']:.5f}", "published: 0.0172"))
    for row in [row for row in rows["training"] if "images_per_second" in row][:2]:
        facts.append(("training, images/s", number(row["images_per_second"]), row["name"]))
    attacks = first_with(rows["attacks"], "seconds_of_1000")
    if attacks:
        facts.append(("AutoAttack, s", number(attacks["seconds_of_1000"]), "1,000 images, at most"))
    device = first_with(rows["device"], "busy_share")
    if device:
        facts.append(("device busy", percent(device["busy_share"]), f"in a {device['unit']}"))
    return facts
