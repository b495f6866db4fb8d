"""Terminal output of a training: the progress bar and the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from nas.cli.bars import Bars
from nas.cli.printing import Terminal

if TYPE_CHECKING:
    from nas.training.config import TrainConfig
    from nas.training.course import TrainResult


class TrainProgress(Bars):
    """Progress bar with epoch, loss, robust and clean validation accuracy, images per second, and time left."""

    def __init__(self, epochs: int, *, show: bool, title: str = ""):
        super().__init__(
            TextColumn("epoch"),
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[figures]}"),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            show=show,
            title=title,
        )
        self._epochs = epochs
        self._task = self.progress.add_task("train", total=epochs, epoch=f"1/{epochs}", figures="")
        self._done = 0

    def step(self, share: float) -> None:
        """Show that ``share`` of the current epoch, in [0, 1], is finished; the first call shows the bar."""
        self.start()
        self.progress.update(self._task, completed=self._done + share)

    def epoch(self, epoch: dict[str, Any]) -> None:
        """Show the record of a finished epoch."""
        self.start()
        self._done = epoch["epoch"]
        figures = f"loss {epoch['loss']:.2f}"
        if "validation_robust_accuracy" in epoch:
            figures += f" robust {epoch['validation_robust_accuracy']:.1%} clean {epoch['validation_accuracy']:.1%}"
        figures += f" {epoch['images_per_second']:.0f} images/s"
        number = f"{min(self._done + 1, self._epochs)}/{self._epochs}"
        self.progress.update(self._task, completed=self._done, epoch=number, figures=figures)


def plan(config: TrainConfig, what: str, trained: int, held: int) -> str:
    """One line that says what is trained (``what``), by which method, for how many epochs, and on how many images.

    :param trained: number of images trained on. :param held: number of images held out for validation.
    """
    numbers = {"channels": config.channels, "layers": config.layers}  # None: there is no such number
    size = "".join(f", {value} {name}" for name, value in numbers.items() if value is not None)
    images = f"{trained:,} images of {config.dataset} ({held:,} held out)"
    epochs = f"{config.epochs} epoch{'s' * (config.epochs != 1)}"
    return f"training {what}{size} on {images}: {config.method}, {epochs}"


def print_result(result: TrainResult, *, tensorboard: bool) -> None:
    """Print the best epoch and the path of its checkpoint."""
    best, epochs = result.best, len(result.history)
    line = f"best epoch: {best['epoch']} of {epochs}"
    if "validation_robust_accuracy" in best:
        line += (
            f", robust validation accuracy {best['validation_robust_accuracy']:.1%},"
            f" clean {best['validation_accuracy']:.1%} on the {result.validation_images:,} images held out"
        )
    else:
        line += " (the last one, since no images are held out for validation)"
    lines = [line, f"model:      {result.checkpoint}"]
    if not tensorboard:
        lines.append("no TensorBoard events: tensorboardX is not installed")
    for each in lines:
        Terminal().say(each)
