"""What coordinate ascent says where it cannot go on."""

from collections.abc import Iterable

import numpy as np

from jensen._errors import JensenError, ModelError


def improper(name: str, place: str, where: str) -> ModelError:
    """What to say of a block whose optimal factor cannot be normalised."""
    return ModelError(
        f"The conditional of block '{name}' is improper: its optimal factor cannot be normalised.{place}",
        where,
        "Give the block a proper prior, and look for data that leave it undetermined.",
    )


def no_maximum(name: str, place: str, where: str) -> ModelError:
    """What to say of a parameter that runs off."""
    return ModelError(
        f"The bound has no maximum in the parameter '{name}': it runs off to the edge of its range.{place}",
        where,
        "A component that holds a single row, or none, drives its variance to zero and the likelihood to infinity: use "
        "fewer components, tie the variances, give the parameter a prior (numpyro.sample, then learn=[...]), or start "
        "elsewhere.",
    )


def finite(elbo: float, order: Iterable[str]) -> float:
    """The bound, or an error where it is not finite."""
    if not np.isfinite(elbo):
        raise JensenError(
            f"The bound became {elbo}.",
            f"After a sweep over {', '.join(order)}.",
            "Rescale the data, or start from other values.",
        )
    return elbo
