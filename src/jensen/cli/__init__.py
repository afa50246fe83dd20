"""The command line, as a function: `jensen = "jensen.cli:main"`."""

from jensen._cli import main

__all__ = ["main"]
