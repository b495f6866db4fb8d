"""``python -m nas.export``: a trained model for other programs, checked against the original on real images."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from nas.models.export_file import ExportConfig, export


def command(argv: Sequence[str]) -> int:
    """The command's work after the name of the program."""
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
    """Run the command; the exit code is 0, 1 (the file would compute something else), 2 (a user's slip) or 130."""
    from nas.cli.options import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
