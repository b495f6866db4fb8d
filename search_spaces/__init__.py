"""Search spaces: genotypes, and the networks built from them. Importing this package does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from search_spaces.base import SearchSpace, unknown_name


def _darts() -> SearchSpace[Any]:
    from search_spaces.darts.space import DartsSpace

    return DartsSpace()


def _darts10() -> SearchSpace[Any]:
    from search_spaces.darts.variants import Darts10Space

    return Darts10Space()


def _darts_imagenet() -> SearchSpace[Any]:
    from search_spaces.darts.variants import DartsImageNetSpace

    return DartsImageNetSpace()


def _darts10_imagenet() -> SearchSpace[Any]:
    from search_spaces.darts.variants import Darts10ImageNetSpace

    return Darts10ImageNetSpace()


def _nasbench201() -> SearchSpace[Any]:
    from search_spaces.nasbench201.space import NasBench201Space

    return NasBench201Space()


def _wide_resnet() -> SearchSpace[Any]:
    from search_spaces.resnets.space import WideResNetSpace

    return WideResNetSpace()


def _robust_resnet() -> SearchSpace[Any]:
    from search_spaces.resnets.space import RobustResNetSpace

    return RobustResNetSpace()


def _robnet() -> SearchSpace[Any]:
    from search_spaces.robnet.space import RobNetSpace

    return RobNetSpace()


#: name -> a function that imports and creates the space; to add a space, add a row
SPACES: dict[str, Callable[[], SearchSpace[Any]]] = {
    "darts": _darts,
    "darts10": _darts10,
    "darts_imagenet": _darts_imagenet,
    "darts10_imagenet": _darts10_imagenet,
    "nasbench201": _nasbench201,
    "robnet": _robnet,
    "wide_resnet": _wide_resnet,
    "robust_resnet": _robust_resnet,
}


def get_space(name: str) -> SearchSpace[Any]:
    """The search space of that name.

    :raises ValueError: unknown name; the message lists the nearest.
    """
    if name not in SPACES:
        raise ValueError(unknown_name("search space", name, SPACES))
    return SPACES[name]()
