"""What networks of blocks share that end with a batch norm and an activation before the pooling."""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.cells.folding import FoldingNetwork
from search_spaces.cells.operations import in_layout


class BlockNetwork(FoldingNetwork):
    """``(N, image_channels, H, W)`` -> logits ``(N, classes)``: stem, blocks, norm, activation, pooling, classifier.

    A subclass makes these modules.
    """

    stem: nn.Module
    blocks: nn.ModuleList
    norm: nn.Module
    activation: nn.Module
    classifier: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(in_layout(images, self.contiguous_layout))
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.classifier(self.activation(self.norm(features)).mean(dim=(2, 3)))
        return logits

    def feature_modules(self) -> list[nn.Module]:
        """The modules whose outputs are the features of each depth: the stem and the blocks, in order."""
        return [self.stem, *self.blocks]

    def pooled_module(self) -> nn.Module:
        """The module whose output is the input of the global pooling."""
        return self.activation
