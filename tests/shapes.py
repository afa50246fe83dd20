"""Run-time checks of annotations, shapes of arrays among them: jaxtyping's import hook with beartype.

`Self` is left out: jaxtyping hands over one method at a time, and beartype knows the class only of a whole class.
"""

from typing import Any, Self, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

CONTRACTS = ("_core.model", "_core.family", "_core.bound", "_core.estimator")
ROOMS = (*CONTRACTS, "_bounds", "_estimators", "_families")
"""Whose functions take and give the public arrays: draws, log weights, coordinates, bounds."""
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers have it


def checked(function: Any) -> Any:
    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {
        name: Any if hint is Self or Self in get_args(hint) else hint for name, hint in hints.items()
    }
    return _beartype(function)


def install() -> None:
    """Check every function of `ROOMS`; before they are imported."""
    install_import_hook([f"jensen.{room}" for room in ROOMS], "tests.shapes.checked")
