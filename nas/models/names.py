"""Names of networks, for those who must not import torch."""

#: names of nas.models.classic.CLASSIC, which are their own whole description
CLASSIC_NAMES = ("resnet18", "densenet121", "wrn_28_10")
