"""Whether means, sds and 99 % points reach as far as the tails do."""

from collections.abc import Iterator

import numpy as np

from jensen._core import AbstractCheck, Finding
from jensen._verdict.tails import Looked, Tail
from jensen._verdict.verdict import Material

FACTOR = 1.3
"""By how much a 1 or 99 % point may fall short, in distances from the median; up to `LENIENT` where draws are few."""
LENIENT = 1.6
MEAN, VARIANCE = 0.1, 0.2
"""What a tail may add to a mean, in sd, and to a variance, in variances."""
MARGIN = 1.1
"""The index of a tail is known to about so much: a moment of order k is finite only if it is above k times that."""
REMEDY = "A moment that is not finite says nothing: use quantiles or a prior with a lighter tail; NUTS goes far out."


class Tails(AbstractCheck):
    """The tail of every scalar, by profiles and the volume around them, beside the draws."""

    dear = True

    def measure(self, material: Material) -> Iterator[Finding]:
        """Nothing where no tail is so heavy that draws might miss it."""
        yield from _endless(material)
        looked = material.looked
        yield from _left(looked)
        found = looked.tails
        if not found:
            return
        pool = material.pool
        yield _quantile(found, "corrected", pool.ess, "usable")
        yield _quantile(found, "of_q", float(pool.half), "trusted")
        shift = max(found, key=lambda tail: tail.shift if np.isfinite(tail.shift) else -1.0)
        missed = np.isfinite(shift.shift) and shift.shift > MEAN
        yield Finding(
            "mean beyond the reach of draws, in sd",
            shift.shift,
            f"< {MEAN}",
            not missed,
            reason=f"The tail of {shift.scalar} beyond the reach of the draws adds {shift.shift:.2g} sd to its mean."
            if missed
            else "",
            remedy=REMEDY,
        )
        yield _moments(found)


def _endless(material: Material) -> Iterator[Finding]:
    """Scalars of which q itself has no mean or variance: an inverse gamma of a small shape, say."""
    said, lost = [], {}
    known = material.answer.exact_moments()
    for order, what in enumerate(("mean", "variance")):
        values = {name: np.isfinite(moments[order]) for name, moments in known.items()}
        names = [
            f"{name}[{','.join(map(str, i))}]" if finite.shape else name
            for name, finite in values.items()
            for i in np.argwhere(~finite)
        ]
        new = [name for name in names if name not in lost]
        lost |= dict.fromkeys(new)
        said += [f"The {what} of {_names(new)} under q is not finite."] if new else []
    if said:
        note, title = " ".join(said), "scalars whose mean or variance under q is not finite"
        yield Finding(title, len(lost), "reported", True, "", note=note, remedy=REMEDY)


def _left(looked: Looked) -> Iterator[Finding]:
    """What was left out: a check looks, and measures, no longer than the fit took."""
    if looked.slow:
        note = (
            f"The density falls slowly in {_names(list(looked.slow))}; to measure all tails would take longer than "
            "the fit did, so that nothing is said of means, sds and quantiles far out there."
        )
        yield Finding("tails that fall slowly, not measured", len(looked.slow), "reported", True, "", note=note)
    if looked.unseen:
        none = "No tail was looked at: that would take longer than the fit did." if not looked.seen else ""
        yield Finding("sides of coordinates not looked at for tails", looked.unseen, "reported", True, "", note=none)


def without_variance(material: Material) -> set[str]:
    """The scalars whose variance is not finite, as `_moments` says of them."""
    return {tail.scalar for tail in material.looked.tails if tail.index <= 2.0 * MARGIN}


def _quantile(found: list[Tail], which: str, effective: float, blocks: str) -> Finding:
    def factor(tail: Tail) -> float:
        return tail.quantile / max(getattr(tail, which), 1e-300)

    worst = max(found, key=factor)
    noise = np.sqrt(99.0 / max(effective, 1.0)) / worst.slope
    # where q falls short, corrected draws do not: it costs little to be strict with it
    limit = FACTOR if which == "of_q" else min(FACTOR * np.exp(noise), LENIENT)
    passed = factor(worst) < limit
    whose = "q's draws" if which == "of_q" else "the corrected draws"
    reason = (
        f"The {worst.level} point of {worst.scalar} is {factor(worst):.2g} times as far from the median as {whose} "
        f"have it: its tail falls like s^-{worst.index:.2g}."
    )
    return Finding(
        f"tail: {worst.level} point / that of {whose}",
        factor(worst),
        f"< {limit:.3g}",
        bool(passed),
        blocks,  # type: ignore[arg-type]
        "" if passed else reason,
        REMEDY if blocks == "usable" else "",
    )


def _moments(found: list[Tail]) -> Finding:
    """Which variances and means are not finite, or hang on a tail that draws do not reach; for any verdict."""
    endless = [tail for tail in found if tail.index <= MARGIN]
    wide = [tail for tail in found if MARGIN < tail.index <= 2.0 * MARGIN]
    unknown = [tail for tail in found if tail.index > 2.0 * MARGIN and tail.spread > VARIANCE]
    said = [
        f"The {what} of {_names([tail.scalar for tail in group])} {verb}: P(|x| > s) falls like "
        f"s^-{min(tail.index for tail in group):.2g}."
        for group, what, verb in (
            (endless, "mean", "is not finite"),
            (wide, "variance", "is not finite"),
            (unknown, "variance", "is finite but not known from the draws"),
        )
        if group
    ]
    least = min(found, key=lambda tail: tail.index)
    return Finding(
        "index of the heaviest tail",
        least.index,
        "reported",
        True,
        "",
        note=" ".join(said),
        remedy=REMEDY if said else "",
    )


def _names(scalars: list[str]) -> str:
    names = list(dict.fromkeys(scalars))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
