"""What an algorithm certifies about its own answer, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Certificate:
    """Diagnostics of the optimiser; `None` where an algorithm does not measure one. A name it does not have is refused.

    Attributes:
        elbo, elbo_se: the exact bound and its error, in nats. bound, fixed_bound: what was maximised over
            parameters, and on fixed draws, in nats.
        gain, to_gain: of the last sweep, and what is still to come, in nats. gain_per_row: the same for each row.
        sweeps, epochs, num_draws, modes, rejected_steps, rollbacks: how many.
        step_size: the last one. decrement, mode_decrement: gᵀ H⁻¹ g at the end and at the mode, twice the nats to come.
        step_in_sd, shift_in_sd: the last step, and the change between the last averages, in posterior sd.
        replicate_in_sd, replicate_log_sd: change of means (in sd) and of log sds in a replicate on other draws.
        moved: change of parameters when the draws were doubled, unconstrained.
        information, information_se: E[log r(λ | z) - log q(λ)] in nats.
        saddle: a saddle was met. read_once: the data could be read once only. interrupted: the user, or
            the budget, stopped the fit.
        rolled_back: it became non-finite.
        share_elsewhere: part of the evidence in optima that q does not cover. variance_elsewhere: what they add to a
            variance, in variances under q. unseen_modes: chance that one more climb ends at a mode not seen; `None`
            where q covers one mode by construction.
        relabelled: how many starts reached the same bound with the labels permuted.
    """

    elbo: float | None = None
    elbo_se: float | None = None
    bound: float | None = None
    fixed_bound: float | None = None
    gain: float | None = None
    to_gain: float | None = None
    gain_per_row: float | None = None
    sweeps: float | None = None
    epochs: float | None = None
    num_draws: float | None = None
    modes: float | None = None
    rejected_steps: float | None = None
    rollbacks: float | None = None
    step_size: float | None = None
    decrement: float | None = None
    mode_decrement: float | None = None
    step_in_sd: float | None = None
    shift_in_sd: float | None = None
    replicate_in_sd: float | None = None
    replicate_log_sd: float | None = None
    moved: float | None = None
    information: float | None = None
    information_se: float | None = None
    saddle: bool = False
    read_once: bool = False
    interrupted: bool = False
    rolled_back: bool = False
    share_elsewhere: float | None = None
    variance_elsewhere: float | None = None
    unseen_modes: float | None = None
    relabelled: float | None = None

    @classmethod
    def of(cls, values: Certificate | Mapping[str, Any]) -> Certificate:
        """From a mapping of names to values; a `TypeError` for a name that is no field."""
        return values if isinstance(values, Certificate) else cls(**values)

    def __or__(self, other: Certificate | Mapping[str, Any]) -> Certificate:
        """With everything that the other one says."""
        return dataclasses.replace(self, **Certificate.of(other).as_dict())

    def __getitem__(self, name: str) -> Any:
        """A field by its name; a `KeyError` where it was not measured."""
        return self.as_dict()[name]

    def as_dict(self) -> dict[str, Any]:
        """What was measured."""
        return {name: value for name, value in vars(self).items() if value is not None and value is not False}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        """The inverse of `as_dict`; names of other versions are left out, flags may be numbers."""
        flags = {part.name for part in dataclasses.fields(cls) if part.type == "bool"}
        known = {part.name for part in dataclasses.fields(cls)}
        return cls(**{n: bool(v) if n in flags else v for n, v in values.items() if n in known})
