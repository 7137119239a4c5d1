"""The `quant` command: each file parses for one group of commands, calls one function and prints.

Heavy packages are imported inside the commands, so that `quant --help` answers at once.
"""

from quant.cli.main import main

__all__ = ["main"]
