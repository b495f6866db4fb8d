"""Small networks that classify 8x8 digits, trained in seconds."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.images.data import load_data, probe_batch
from nas.models.architecture import Architecture
from nas.models.checkpoint import Checkpoint

SIZE = 8
DIGITS = tuple("0123456789")
CELLS = {
    "nasbench201": (3, "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"),
    "darts": (2, "DARTS_V2"),
}


def train(model: nn.Module, epochs: int, images: Tensor, labels: Tensor) -> nn.Module:
    """Adam on shuffled batches of 32; in eval mode afterwards."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=generator).split(32):
            optimiser.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimiser.step()
    return model.eval()


def train_images() -> tuple[Tensor, Tensor]:
    split = load_data("digits", image_size=SIZE).train
    return split.images / 255, split.labels


def sample_images(n: int) -> tuple[Tensor, Tensor]:
    return probe_batch(load_data("digits", image_size=SIZE).test, n, 0)


def small_network(classes: int = 10, epochs: int = 6) -> nn.Module:
    """A linear layer after one convolution; of the digits below ``classes``."""
    images, labels = train_images()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, classes))
    chosen = labels < classes
    return train(model, epochs, images[chosen], labels[chosen])


def trained_checkpoint(path: Path, family: str = "nasbench201", epochs: int = 2) -> Path:
    """A cell network's checkpoint, which says that it was trained on digits."""
    layers, genotype = CELLS[family]
    architecture = Architecture(
        family=family, genotype=genotype, channels=4, layers=layers, classes=DIGITS, image_size=(SIZE, SIZE)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = architecture.build()
    train(model, epochs, *train_images())
    path.parent.mkdir(parents=True, exist_ok=True)
    Checkpoint(architecture=architecture, weights=model.state_dict(), facts={"dataset": "digits"}).save(path)
    return path
