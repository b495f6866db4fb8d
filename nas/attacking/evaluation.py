"""Robust accuracy: attacks on a labelled set, counted by what the model predicts on the images that come back.

From Python::

    from nas.attacking.evaluation import evaluate

    result = evaluate(model, images, labels, ["fgsm", "pgd-20", "autoattack"], epsilon=8 / 255)
    print(result.accuracy("AA"))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
from torch import Tensor, nn

from nas.attacking.base import Attack, check_attacks
from nas.attacking.evaluator import Evaluator, Watch, check_model
from nas.attacking.masking import masking_signs
from nas.attacking.registry import DEFAULT_ATTACKS, REFERENCE_STEPS, get_attack
from nas.attacking.replay import replaying
from nas.attacking.results import Evaluation
from nas.attacking.samples import SampleStore
from nas.errors import UserError
from nas.norms import DEFAULT_EPSILON, Norm, check_norm, radius


def evaluate(
    model: nn.Module,
    images: Tensor | npt.NDArray[Any],
    labels: Tensor | npt.NDArray[Any],
    attacks: Sequence[str | Attack] = DEFAULT_ATTACKS,
    *,
    norm: Norm = "Linf",
    epsilon: str | float = DEFAULT_EPSILON,
    step_size: str | float | None = None,
    autoattack_steps: int = REFERENCE_STEPS,
    batch: int = 64,
    seed: int = 0,
    checks: bool = True,
    store: SampleStore | None = None,
    watch: Watch | None = None,
    cuda_graphs: bool = False,
) -> Evaluation:
    """Attacks ``model``, which stays as it is.

    :param model: images -> logits ``(N, classes)``, normalisation inside; attacked where its parameters are.
    :param images: ``(N, C, H, W)``, float in [0, 1]. :param labels: ``(N,)``, int64. Tensors, or arrays of numpy.
    :param attacks: names (:func:`~nas.attacking.registry.get_attack`), or objects of
        :class:`~nas.attacking.base.Attack`, whose norm and epsilon must be those of the evaluation.
    :param norm: ``Linf`` or ``L2``. :param epsilon: in pixel units of [0, 1]; ``"8/255"`` will do.
    :param step_size: of PGD and CW, likewise; by default a quarter of epsilon.
    :param autoattack_steps: iterations of AutoAttack's APGD and FAB.
    :param batch: images attacked at a time. :param seed: of the attacks; results depend on both.
    :param checks: also look for signs of gradient masking (:mod:`nas.attacking.masking`).
    :param store: results already known, and where new ones go. :param watch: is told of every block that is done.
    :param cuda_graphs: on a GPU, replay the model's passes as CUDA graphs, for a model that computes a function of the
        images alone: without Python code that another call would run in another way, such as random numbers of numpy.
    :raises UserError: images or labels that do not fit each other or the model, an attack, a norm or an epsilon that
        cannot be, or logits that are not finite. :raises AttackFailed: an attack broke its rules or raised an error;
        what was finished before is in ``store``.
    """
    check_norm(norm)
    epsilon = radius(epsilon, norm)
    check_model(model)
    with replaying(model, cuda_graphs) as called:
        evaluator = Evaluator(model, images, labels, batch=batch, seed=seed, store=store, called=called)
        options: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "classes": evaluator.classes}
        options |= {"step_size": step_size, "autoattack_steps": autoattack_steps}
        several = [attacks] if isinstance(attacks, str | Attack) else attacks
        made = [get_attack(each, **options) if isinstance(each, str) else each for each in several]
        check_attacks(made, *evaluator.images.shape[2:])
        _check_together(made, norm, epsilon)
        results = [evaluator.run(attack, watch=watch) for attack in made]
        return Evaluation(results=results, warnings=masking_signs(evaluator, results, norm) if checks else [])


def _check_together(attacks: Sequence[Attack], norm: Norm, epsilon: float) -> None:
    """:raises UserError: there are none, two have one name, or one has another norm or epsilon than the evaluation."""
    names = [attack.name for attack in attacks]
    if not names or len(set(names)) < len(names):
        raise UserError(f"expected at least one attack, each under a name of its own, got {', '.join(names) or 'none'}")
    for attack in attacks:
        if (attack.norm, attack.epsilon) != (norm, epsilon):
            raise UserError(
                f"{attack.name} attacks in {attack.norm} with epsilon {attack.epsilon:.6g}, expected the evaluation's"
                f" {norm} with {epsilon:.6g}"
            )
