"""A plain parser for commands whose options are no configuration."""

from __future__ import annotations

import argparse
from typing import NoReturn

from nas.errors import UserError


class Parser(argparse.ArgumentParser):
    """Its errors are one line, without the usage text, as those of the other commands."""

    def error(self, message: str) -> NoReturn:
        """:raises UserError: always."""
        raise UserError(message)
