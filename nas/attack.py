"""``python -m nas.attack``: what a trained model withstands.

Writes ``attack.json`` into the run directory, and ``attack-samples.jsonl``, from which an interrupted evaluation goes
on and to which a larger one adds. From Python: :func:`nas.evaluation.evaluate`.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.attack_config import AttackConfig
from nas.config import option

if TYPE_CHECKING:
    from nas.evaluation import Watch

RESULT = "attack.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the result goes."""

    out: str | None = option(None, "directory of attack.json (default: the run directory, or the checkpoint's folder)")
    quiet: bool = option(False, "no progress and no table: print one line an attack, name and accuracy")
    json: bool = option(False, "no progress and no table: print attack.json's object")


def attack(config: AttackConfig, out: Path | None = None, watch: Watch | None = None) -> dict[str, Any]:
    """Attacks the model and writes ``attack.json``, whose object is returned.

    :raises UserError: an option that cannot be, in one line.
    :raises KeyboardInterrupt: with a message that says how to go on.
    """
    from nas import environment
    from nas.attack_samples import SAMPLES, SampleStore
    from nas.attack_settings import make_attack
    from nas.data import fingerprint
    from nas.device import torch_device, torch_threads
    from nas.evaluation import evaluate
    from nas.runs import write_json
    from nas.trained_models import TrainedModel, attack_batch, images_for

    device, model = torch_device(config.device), TrainedModel.read(config.model)
    how: dict[str, Any] = {
        "norm": config.norm, "epsilon": config.radius, "step_size": config.step,
        "autoattack_steps": config.autoattack_steps,
    }  # fmt: skip
    for name in config.attack:  # a slip shows before images are read
        make_attack(name, classes=len(model.checkpoint.architecture.classes), **how)
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
    }
    out = out or (config.model if config.model.is_dir() else model.path.parent)
    with SampleStore(out / SAMPLES, identity) as store, torch_threads(config.threads):
        try:
            evaluation = evaluate(
                classifier, images, labels, config.attack, **how,
                batch=config.batch, seed=config.seed, store=store, watch=watch,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; what is finished is in {shlex.quote(str(out / SAMPLES))}, the same command goes on"
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


def command(argv: Sequence[str]) -> int:
    """The command's work after the name of the program."""
    from nas.cli import parse_options, pick

    values = parse_options(
        argv,
        "python -m nas.attack",
        "Attack a trained model: its accuracy on natural images and on those of each attack.",
        (("attack", AttackConfig), ("output", OutputOptions)),
        repeated=("--attack",),
    )
    config, output = pick(AttackConfig, values), pick(OutputOptions, values)
    from nas.attack_output import AttackProgress, print_evaluation

    with AttackProgress(show=not (output.quiet or output.json)) as bar:
        result = attack(config, None if output.out is None else Path(output.out), bar.update)
    if output.json:
        print(json.dumps(result))
    elif output.quiet:
        for row in result["attacks"]:
            print(f"{row['attack']} {row['accuracy']:.4f}")
    else:
        print_evaluation(result)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 (an attack broke its rules), 2 (a user's slip) or 130 (interrupted)."""
    from nas.cli import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
