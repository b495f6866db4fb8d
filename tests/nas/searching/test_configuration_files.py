"""``--config`` and ``--print_config``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from nas.search import main
from tests.nas.commands import slip, timeless
from tests.nas.searching.runs import COUNT, TINY

pytestmark = pytest.mark.usefixtures("somewhere_else")


def printed_config(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as exit:
        main([*words, "--print_config"])
    assert exit.value.code == 0
    return capsys.readouterr().out


def test_a_printed_configuration_can_be_given_back(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    words = [*COUNT, "--proxy", "macs", "--require", "normal.skip_connect <= 3", "--require=reduce.none == 0"]
    text = printed_config(capsys, *words)
    assert yaml.safe_load(text)["proxy"] == ["params", "macs"]
    assert yaml.safe_load(text)["require"] == ["normal.skip_connect <= 3", "reduce.none == 0"]
    Path("run.yaml").write_text(text)
    assert printed_config(capsys, "--config", "run.yaml") == text
    assert main(["--config", "run.yaml", "--out", "1"]) == 0 and main([*words, "--out", "2"]) == 0
    assert timeless(Path("1")) == timeless(Path("2"))


def test_a_manifest_can_be_given_back(finished: Path) -> None:
    manifest = str(finished / "manifest.json")
    assert main(["--config", manifest, "--out", "same", "--no-report", "--quiet"]) == 0
    assert timeless(Path("same")) == timeless(finished)
    assert main([f"--config={manifest}", "--out", "other", "--no-report", "--quiet", "--seed", "1"]) == 0
    assert timeless(Path("other"))[0]["key"] != timeless(finished)[0]["key"]


def test_a_configuration_may_name_a_single_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("proxy: params\nrequire: normal.skip_connect == 2\nlayers: 2\nbudget: 3\n")
    assert main(["--config", "run.yaml", "--channels", "2", "--no-report", "--quiet", "--out", "run"]) == 0
    configuration = json.loads(Path("run/manifest.json").read_text())["configuration"]
    assert configuration["proxy"] == ["params"] and configuration["require"] == ["normal.skip_connect == 2"]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["--config run.yaml", "no such file"]),
        ("budget: [\n", ["--config run.yaml", "not YAML", "line 2"]),
        ("", ["--config run.yaml", "must hold options by name"]),
        ("- 1\n", ["--config run.yaml", "must hold options by name", "[1]"]),
        ("\udcff\udcfe", ["run.yaml is not text in UTF-8"]),
        ("bugdet: 5\n", ["--config run.yaml", "unknown option 'bugdet'", "did you mean budget"]),
        ("budget: many\n", ["--config run.yaml: --budget must be a whole number, got 'many'"]),
        ("proxy: 5\n", ["--proxy", "5"]),
        ("proxy: []\n", ["--proxy must name at least one proxy"]),
        ("sampler: both\n", ["--sampler must be uniform or published, got 'both'"]),
    ],
)
def test_a_bad_configuration_file(content: str | None, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        Path("run.yaml").write_bytes(content.encode(errors="surrogateescape"))
    error = slip(capsys, *TINY, "--quiet", "--no-report", "--config", "run.yaml")
    assert all(part in error for part in parts), error
