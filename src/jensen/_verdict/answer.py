"""What a `Fit` asks of an approximation, whatever kind of q it is. NumPy in, NumPy out."""

from __future__ import annotations

import abc
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from jensen._base.errors import UndefinedError
from jensen._core import AbstractCheck, Outcome
from jensen._math.precision import Precision
from jensen._model.program import BoundProgram
from jensen._program.structure import Structure

if TYPE_CHECKING:
    from jensen._verdict.check import Report
    from jensen._verdict.evidence import Decomposition, Evidence
    from jensen._verdict.importance import Pool
    from jensen._verdict.labellings import Counted, View
    from jensen._verdict.moments import Agreement
    from jensen._verdict.states import Probabilities
    from jensen._verdict.surgery import Surgery
    from jensen._verdict.tails import Looked

CORRECTED = "Use `sample`, `summary` and `to_arviz` as they are (they are corrected by default), not q itself."
"""What to do with a usable fit."""
Draws = dict[str, np.ndarray]
"""Site -> (draws, ...) on the model's support; deterministic and discrete sites included."""


class AbstractAnswer(abc.ABC):
    """An approximation together with the model that it approximates.

    There is one class for each kind of q; `_fit.answers` finds it by `approximates`, a file by `kind`.
    A `Fit` keeps what is computed here.

    Attributes:
        target: the analysed model that q belongs to.
        outcome: what the algorithm left behind.
        structure: sites and plates.
        part: which model it reads of several that `auto` may have.
        program: the NumPyro program with its data; `None` for a plain log density.
        space: what the importance weights are on, in words, where it is not the latents themselves.
        partial: whether q leaves latents of rows out, so that a model may have more of them.
        grows: whether independent pools of it may be joined, at a cost that is no matter.
        costly: whether checks that need many log densities take seconds, or a density that has to be compiled first.
        advice: what to do where a fit is "usable", and where it is "untrusted" and no check that failed has a remedy.
    """

    kind: ClassVar[str]
    approximates: ClassVar[type | tuple[type, ...]]
    part: ClassVar[str] = "density"
    target: Any
    outcome: Outcome
    structure: Structure
    program: BoundProgram | None
    space: str = ""
    partial: ClassVar[bool] = False
    grows: bool = False
    costly: bool = True
    advice: Mapping[str, str]
    _counted: tuple[Pool, Counted] | None = None
    _drawn: tuple[Pool, Draws] | None = None
    _tails: tuple[Pool, Looked] | None = None

    @abc.abstractmethod
    def __init__(self, target: Any, outcome: Outcome, seed: int): ...

    @property
    @abc.abstractmethod
    def q(self) -> Any:
        """The approximation as the method left it."""

    @property
    @abc.abstractmethod
    def approximation(self) -> Any:
        """q over the latents on their own supports."""

    @abc.abstractmethod
    def elbo(self, seed: int) -> tuple[float, float]:
        """E_q[log p(x, z) - log q(z)] on draws that the fit has not seen, and its standard error, in nats."""

    @abc.abstractmethod
    def pool(self, seed: int) -> Pool:
        """Importance draws; the first half of them from q."""

    def settled_pool(self, seed: int) -> Pool:
        """The pool, of up to four times as many draws where a figure of the verdict is near its limit."""
        from jensen._verdict.checks.near import hopeful, undecided
        from jensen._verdict.importance import joined
        from jensen._verdict.verdict import Material

        pool = self.pool(seed)
        for further in (1, 2):
            if not self.grows or not hopeful(pool):
                break
            if not undecided(Material(self, pool, self.drawn(pool), seed)):
                break
            if self.labellings(pool).log_count:  # more draws stray into labellings that q is not to describe
                break
            for _ in range(further):
                seed += 7_919
                pool = joined(pool, self.pool(seed))
        return pool

    def drawn(self, pool: Pool) -> Draws:
        """The same as `draws_of`, found once for each pool."""
        if self._drawn is None or self._drawn[0] is not pool:
            self._drawn = pool, self.draws_of(pool)
        return self._drawn[1]

    def tails(self, pool: Pool, draws: Draws, seed: int) -> Looked:
        """Tails that fall too slowly to be known from the draws, with proposals that follow them; found once a pool."""
        from jensen._verdict.tails import Looked, measured

        if self._tails is None or self._tails[0] is not pool:
            where = self.unconstrained(pool, draws)
            self._tails = pool, Looked() if where is None else measured(*where, seed)
        return self._tails[1]

    @abc.abstractmethod
    def draws_of(self, pool: Pool) -> Draws:
        """The pool's draws on the latents' supports, deterministic sites included."""

    def resampled(self, pool: Pool, draws: Draws, rows: np.ndarray, seed: int) -> Draws:
        """The pool's draws of these rows, with everything that `sample` returns."""
        del pool, seed
        return {name: values[rows] for name, values in draws.items()}

    def places(self, count: int) -> tuple[int, int]:
        """Of `count` draws for a table, how many rows of the pool they take, and how often each."""
        return count, 1

    def inputs(self) -> dict[str, Any]:
        """The model's arguments in the fit, at which data are replicated."""
        assert self.program is not None  # only programs have observed sites
        return self.program.kwargs

    def observed(self) -> dict[str, np.ndarray]:
        """The values of the observed sites."""
        if self.program is None:
            return {}
        return self.program.observed([site.name for site in self.structure.observed])

    def marginals(self, points: np.ndarray) -> Draws:
        """Probabilities of every value of the discrete latents that were summed out, (*shape, K), over pool points."""
        del points
        return {}

    @abc.abstractmethod
    def sample(self, count: int, seed: int) -> Draws:
        """Draws from q itself."""

    @abc.abstractmethod
    def checks(self) -> tuple[AbstractCheck, ...]:
        """What the verdict on this kind of q stands on."""

    @abc.abstractmethod
    def agreement(self, pool: Pool, draws: Draws) -> Agreement:
        """Means and sds of q against corrected ones."""

    def probabilities(self, pool: Pool, draws: Draws, without: Collection[str] = ()) -> dict[str, Probabilities]:
        """Of the values of discrete latents that are few: under q, and by the weights."""
        del pool, draws, without
        return {}

    def exchanged(self, pool: Pool) -> set[str]:
        """The discrete latents all values of which renumberings exchange: each has probability 1 / K."""
        del pool
        return set()

    def unconstrained(
        self, pool: Pool, draws: Draws, always: bool = False
    ) -> tuple[Any, np.ndarray, np.ndarray] | None:
        """(the log density over R^D, the pool's draws there, their weights); `None` where it is too dear to build.

        Unless `always`, it may be `None` also where no tail of the draws is long.
        """
        del pool, draws, always
        return None

    def prior_weights(self, seed: int) -> np.ndarray | None:
        """log p(x, z) / p(z) at draws of the prior, where they are cheap and say something that climbs do not."""
        del seed
        return None

    def onward(self, pool: Pool) -> str:
        """What `Fit.refine` would take, a sentence; empty where it has nothing to go on with."""
        del pool
        return ""

    def khat(self, pool: Pool) -> float:
        """Pareto k̂ of p/q as the report gives it."""
        return pool.khat_q

    def judge(self, pool: Pool, draws: Draws, seed: int, further: tuple[AbstractCheck, ...] = ()) -> Report:
        """The verdict, by `checks` and by `further` ones."""
        from jensen._verdict.checks import Given
        from jensen._verdict.verdict import Material, verdict

        given = (Given(self.outcome.estimates),) if self.outcome.estimates else ()
        return verdict(Material(self, pool, draws, seed), (*self.checks(), *given, *further))

    def evidence(self, pool: Pool) -> Evidence:
        """Bounds on log p(x) and its estimate."""
        from jensen._verdict.evidence import evidence

        return evidence(pool, counted=self.labellings(pool))

    def view(self, pool: Pool) -> View | None:
        """The pool as latents that could be renumbered; `None` where there are none."""
        del pool
        return None

    def labellings(self, pool: Pool) -> Counted:
        """The pool with weights that count every equivalent labelling; found once for each pool."""
        from jensen._verdict.labellings import Counted, counted

        if self._counted is None or self._counted[0] is not pool:
            view = self.view(pool) if np.isfinite(pool.log_joint).any() else None
            self._counted = pool, counted(pool, view) if view else Counted(pool)
        return self._counted[1]

    @abc.abstractmethod
    def decompose(self, log_evidence: float, seed: int, num_draws: int | None) -> Decomposition:
        """The decompositions of the bound, in nats."""

    def exact_moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Site -> (mean, sd) under q, elementwise, where they are known without draws."""
        return {}

    def infer(self, new_data: Mapping[str, Any] | None, refine: bool) -> Any:
        """The posterior of new rows without a refit."""
        del new_data, refine
        raise UndefinedError(
            "This method fits each latent by itself, so new rows need a fit of their own.",
            "",
            "Use jn.amortised(), whose encoder answers for new rows, or cavi or svi where the model allows them.",
        )

    def surgery(self, num_draws: int | None = None) -> Surgery:
        """The ELBO of a data set taken apart, for amortised fits."""
        del num_draws
        raise UndefinedError(
            "The surgery of the bound is about latents that an encoder finds from their rows.",
            "",
            "Use jn.amortised(); fit.decompose() takes apart the bound of any fit.",
        )

    def latents_for(self, arguments: Mapping[str, Any], count: int, seed: int) -> Draws | None:
        """Draws of the latents that new inputs determine; `None` where they determine none."""
        del arguments, count, seed
        return None

    def pointwise(self, draws: Draws, names: list[str]) -> Draws:
        """Elementwise log densities of observed sites at draws of the latents, (draws, ...), in nats."""
        assert self.program is not None  # the names are those of observed sites, which only programs have
        latents = {site.name: draws[site.name] for site in self.structure.latents}
        return self.program.pointwise(latents, names)

    def linear_response(self, names: list[str]) -> np.ndarray | None:
        """Linear-response sds of these scalars on the sites' own scale, where the method gives them."""
        del names
        return None

    def columns(self, names: list[str]) -> dict[str, np.ndarray]:
        """Further columns of the summary table for these scalars."""
        del names
        return {}

    @abc.abstractmethod
    def parameters(self) -> dict[str, np.ndarray]:
        """The arrays from which `restored` builds q again: what a file keeps."""

    @staticmethod
    @abc.abstractmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Any | None:
        """q from saved arrays; `None` where that needs the model and `target` is `None`."""

    @staticmethod
    def on_chart(target: Any, parameters: Mapping[str, np.ndarray]) -> Any:
        """The target in the coordinates in which q was saved."""
        del parameters
        return target

    @staticmethod
    @abc.abstractmethod
    def prepared(model: Any, data: Any, precision: Precision, options: Mapping[str, Any]) -> Any:
        """The target of a saved fit, from its model and data and the options of its method."""
