"""Names of the classic networks, which can be read without importing torch."""

#: the keys of nas.models.classic.CLASSIC; such a network has no genotype and one size
CLASSIC_NAMES = ("resnet18", "densenet121", "wrn_28_10")
