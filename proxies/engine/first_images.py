"""What proxies share that look at the first images of the batch."""

from __future__ import annotations

from typing import ClassVar

from proxies.base import Probe, Proxy
from proxies.engine.checks import check_at_least


class FirstImagesProxy(Proxy):
    """A proxy whose option ``images`` says how many images it takes from the start of the probe's batch.

    None stands for ``default_images``, or all images where the batch holds fewer. A score takes ``least_images`` of
    them.
    """

    default_images: ClassVar[int]
    image_options = ("images",)

    def __init__(self, images: int | None):
        check_at_least(self.least_images, images=images)
        self.images = images

    def images_needed(self) -> int:
        return self.least_images if self.images is None else self.images

    def count(self, probe: Probe) -> int:
        """How many images of this probe's batch it looks at."""
        return probe.count(self.images, self.default_images)
