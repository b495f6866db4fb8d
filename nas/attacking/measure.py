"""The work of ``python -m nas.attack``: attacks a trained model on test images and writes ``attack.json``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.attacking.config import AttackConfig
from nas.errors import AttackFailed
from nas.files import kind

if TYPE_CHECKING:
    from nas.attacking.evaluator import Watch
    from search_spaces.base import SearchSpace

RESULT = "attack.json"
FORMAT = 1


def attack(
    config: AttackConfig,
    out: Path | None = None,
    watch: Watch | None = None,
    *,
    space: SearchSpace[Any] | None = None,
) -> dict[str, Any]:
    """Attacks the model and writes ``attack.json``, whose object is returned.

    :param out: directory to write to; by default the run directory, or the checkpoint's folder.
    :param space: the search space of the model, where it is not one of this program's.
    :raises UserError: an option's value is not possible.
    :raises AttackFailed: an attack broke its rules or raised an error; what was finished before is kept.
    :raises KeyboardInterrupt: with a message that says how to resume.
    """
    from nas.attacking.evaluation import evaluate
    from nas.attacking.registry import get_attack
    from nas.attacking.samples import SAMPLES, SampleStore
    from nas.device import tf32, torch_device, torch_threads
    from nas.images.data import fingerprint
    from nas.models.trained import TrainedModel, attack_batch, images_for
    from nas.runs import environment
    from nas.runs.directory import check_result, write_json

    device, model = torch_device(config.device), TrainedModel.read(config.model, space)
    out = out or (config.model if kind(config.model) == "folder" else model.path.parent)
    check_result(out / RESULT, "attacks", "model")
    how: dict[str, Any] = {
        "norm": config.norm, "epsilon": config.radius, "step_size": config.step,
        "autoattack_steps": config.autoattack_steps,
    }  # fmt: skip
    for name in config.attack:  # an unknown name is an error before images are read
        get_attack(name, classes=len(model.checkpoint.architecture.classes), **how)
    data = images_for(
        model, config.dataset, data_dir=config.data_dir, download=config.download, image_size=config.image_size
    )
    images, labels = attack_batch(data.test, config.samples, config.seed)
    classifier = model.classifier().to(device)
    images_facts = {"dataset": data.name, "fingerprint": fingerprint(data.test), "test_images": len(data.test.labels)}
    facts = model.facts()
    identity = {
        "model": facts["fingerprint"],
        "images": images_facts["fingerprint"],
        "seed": config.seed,
        "batch": config.batch,
        **({} if config.tf32 is None else {"tf32": config.tf32}),
    }
    with SampleStore(out / SAMPLES, identity) as store, torch_threads(config.threads), tf32(config.tf32):
        try:
            evaluation = evaluate(
                classifier, images, labels, config.attack, **how,
                batch=config.batch, seed=config.seed, store=store, watch=watch, cuda_graphs=config.cuda_graphs,
            )  # fmt: skip
        except AttackFailed as error:
            finished = "results that were finished before are kept in"
            raise AttackFailed(f"{error}; {finished} {shlex.quote(str(out / SAMPLES))}") from error.__cause__
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; what is finished is in {shlex.quote(str(out / SAMPLES))}, the same command resumes"
            ) from None
        result = {
            "format": FORMAT,
            "configuration": config.to_json(),
            "model": facts,
            "images": {**images_facts, "samples": len(labels)},
            "norm": config.norm,
            "epsilon": config.radius,
            **evaluation.to_json(),
            "versions": environment.versions(("torchattacks",)),
            "hardware": environment.hardware(device),
            "git_commit": environment.git_commit(),
        }
        write_json(out / RESULT, result)
    return result
