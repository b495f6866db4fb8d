"""``python -m nas.export``: a trained model for other programs, checked against the original on real images."""

from __future__ import annotations

if __name__ == "__main__":  # Ctrl-C during the imports that follow
    from nas.cli import interrupts

    interrupts.end_at_once()

import json
import sys
from collections.abc import Sequence

from nas.models.export_file import ExportConfig, export


def command(argv: Sequence[str]) -> int:
    """Run the command.

    :param argv: the words after the name of the program.
    :raises UserError: one of them is wrong.
    """
    from nas.cli.options import parse_options, pick
    from nas.spaces import SpaceOptions, named_space

    argv, space = named_space(argv)
    groups = (("export", ExportConfig), ("space", SpaceOptions))
    config = pick(
        ExportConfig, parse_options(argv, "python -m nas.export", "Write a trained model for other programs.", groups)
    )
    result = export(config, space=space)
    if config.json:
        print(json.dumps(result))
        return 0
    print(f"{result['file']}: {result['format']}, {result['bytes']:,} bytes")
    if result["checked_on"] is None:
        print("not checked: onnxruntime is not installed")
    else:
        print(f"checked on {result['checked_on']}: logits differ by at most {result['largest_difference']:.2g}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0, 1 (the file would compute something else), 2 (wrong input), 130 (interrupted)."""
    from nas.cli.running import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
