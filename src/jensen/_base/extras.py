"""Packages that only some need: an extra brings them, and a sentence names the extra where one is missing."""

import importlib
import importlib.util
from typing import Any

from jensen._base.errors import MissingExtraError

EXTRAS = {"plots": ("matplotlib", "arviz_plots"), "parquet": ("pyarrow",)}
"""Extra -> the modules that it brings; pyproject.toml names their distributions."""


def needed(module: str) -> Any:
    """The module, imported; raises `MissingExtraError` with the extra that brings it where it is not installed."""
    require(module)
    return importlib.import_module(module)


def require(module: str) -> None:
    """Raise `MissingExtraError` where the module is not installed, without importing it."""
    root = module.partition(".")[0]
    if importlib.util.find_spec(root) is None:
        extra = next(name for name, modules in EXTRAS.items() if root in modules)
        raise MissingExtraError(
            f"This needs {root}, which is not installed.",
            f"It comes with the extra '{extra}'.",
            f"pip install 'jensen[{extra}]'.",
        )
