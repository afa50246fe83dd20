"""Contract 7, the check: it measures one thing, judges it and says so."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Verdict = Literal["trusted", "usable", "untrusted"]
Blocks = Literal["trusted", "usable", ""]


@dataclass(frozen=True)
class Finding:
    """What a check measured and what follows from it.

    Attributes:
        title, value, limit: the line of the table: what was measured, its value, what is wanted in words.
        passed: whether it is.
        blocks: the verdict that a failure rules out: "trusted" (the fit is usable at best), "usable" (untrusted), or ""
            (reported only).
        reason: a sentence for a verdict that is not "trusted"; empty where the figure is no reason.
        remedy: what to do about it, a sentence; said where the check failed, or beside its `note`.
        note: a sentence for any verdict.
        grounds: verdict -> the sentence by which this figure grounds it.
    """

    title: str
    value: float
    limit: str
    passed: bool
    blocks: Blocks = "usable"
    reason: str = ""
    remedy: str = ""
    note: str = ""
    grounds: Mapping[str, str] = field(default_factory=dict)

    def sentences(self, verdict: Verdict) -> list[str]:
        """What this finding has to say under a verdict."""
        said = [self.note, self.grounds.get(verdict, ""), "" if verdict == "trusted" else self.reason]
        return [sentence for sentence in said if sentence]

    @property
    def advises(self) -> bool:
        """Whether its remedy is to be said."""
        return bool(self.remedy) and (not self.passed or bool(self.note))


class AbstractCheck(abc.ABC):
    """One kind of evidence for or against a fit. Add one to a fit by `Fit.with_checks`.

    Example:
        >>> class Narrow(AbstractCheck):
        ...     def measure(self, material):
        ...         sd = float(material.draws["x"].std())
        ...         yield Finding("sd of x", sd, "< 2", sd < 2, "usable", f"x has an sd of {sd:.2g}.")
    """

    dear: ClassVar[bool] = False
    """Whether it is left out where it costs much and the other checks have ruled *usable* out already."""

    @abc.abstractmethod
    def measure(self, material: Any) -> Any:
        """The findings, an iterable of `Finding`, on a `jensen._verdict.verdict.Material`."""
