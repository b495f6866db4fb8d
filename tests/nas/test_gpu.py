"""What runs on a CUDA device, against the same on the CPU: ``make gpu``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import proxies
from nas import Search
from nas.searching.forward_pass import latency_ms, memory_mib
from nas.training import TrainConfig, Trainer
from search_spaces import get_space
from search_spaces.base import NetworkSpec

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


def test_a_search_and_a_training_run_on_the_device(tmp_path: Path) -> None:
    search = Search(
        budget=6, population=2, tournament=1, channels=8, layers=4, device="cuda", out=tmp_path / "run", report=False
    )
    result = search.run()
    assert [trial.status for trial in result.trials] == ["ok"] * 6
    config = TrainConfig(run=str(result.path), epochs=1, images=200, channels=8, layers=4, device="cuda")
    trained = Trainer(config, out=tmp_path / "run").run()
    assert 0 <= trained.best["validation_robust_accuracy"] <= 1


def test_a_forward_pass_is_measured_on_the_device() -> None:
    network = get_space("darts").build(get_space("darts").parse("ROBUST_ZCP"), NetworkSpec(channels=8, layers=6)).eval()
    images = torch.rand(4, 3, 32, 32)
    expected = memory_mib(network, images)
    assert memory_mib(network.cuda(), images.cuda()) == pytest.approx(expected, rel=0.02)
    products = torch.nn.Sequential(*(torch.nn.Linear(8192, 8192, bias=False) for _ in range(8))).cuda()
    median, _ = latency_ms(products, torch.rand(8192, 8192, device="cuda"))
    assert median > 5  # 9 * 10^12 operations: only who does not wait for them would measure less
