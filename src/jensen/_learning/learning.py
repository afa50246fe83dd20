"""A method together with the parameters that it learns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from jensen._auto.auto import Auto
from jensen._base.errors import ModelError, OptionError
from jensen._conjugate.algebra import ConjugateTarget, conjugate_target
from jensen._conjugate.algebra.model import conjugate_program
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.svi import SVI
from jensen._core import AbstractAlgorithm, AbstractTarget
from jensen._core.algorithm import Run
from jensen._data.data_check import as_mapping
from jensen._gaussian.advi import ADVI
from jensen._learning import em, numeric, variational
from jensen._math.precision import Precision
from jensen._math.programs import Program
from jensen._model.parameters import LEARNED, Closed, Opened, Parameter

LEARNERS = (Auto, ADVI, CAVI, SVI)


@dataclass(frozen=True, eq=False)
class LearningTarget(AbstractTarget):
    """What is worked on, and the data without learned arguments.

    `conjugate` is the open model where coordinate ascent applies to all of it; `exact` the model at its starting values
    where only the latents' conditional is conjugate, and a single block.
    """

    conjugate: ConjugateTarget | None
    exact: tuple[ConjugateTarget, Program] | None
    data: dict[str, Any]
    precision: Precision
    row_precision: Precision


@dataclass(frozen=True, eq=False)
class Learning:
    """`algorithm` for the latents, the parameters maximised with it.

    `cavi` does EM, `svi` by minibatches; `auto` does EM where every block is conjugate or a mode in closed form, and
    otherwise, like `advi`, maximises the bound jointly in a Gaussian q and the parameters.
    """

    algorithm: AbstractAlgorithm
    fn: Callable[..., Any]
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        """The method's."""
        return self.algorithm.name

    def prepare(self, data: Mapping[str, Any] | None, precision: Precision) -> Any:
        """Analyse the model with its parameters open; refusals come before any compilation where they can."""
        own = self.algorithm.prepare_learning(self.fn, self.parameters, data, precision)
        if own is not None:
            return own
        if not isinstance(self.algorithm, LEARNERS):
            names = ", ".join(map(repr, (p.name for p in self.parameters)))
            raise OptionError(
                f"The method '{self.name}' does not learn parameters ({names}).",
                "Argument: method.",
                "Use 'auto', 'cavi', 'svi', 'advi', 'bbvi' or 'hvm'; then fix the values found and use this method for "
                "the posterior.",
            )
        taken = {p.name for p in self.parameters if p.kind == "argument"}
        rest = {k: v for k, v in as_mapping(data).items() if k not in taken}
        opened, conjugate, exact = Opened(self.fn, self.parameters), None, None
        if not isinstance(self.algorithm, ADVI):
            try:
                conjugate = conjugate_target(opened, rest, blocks=self._cavi.blocks, row_precision=precision)
            except ModelError:
                exact = None if isinstance(self.algorithm, SVI) else self._exact(rest)
                if exact is None and isinstance(self.algorithm, (CAVI, SVI)):
                    raise
        working = "double" if conjugate is not None or exact is not None else precision
        return LearningTarget(conjugate, exact, rest, working, precision)

    def _exact(self, rest: dict[str, Any]) -> tuple[ConjugateTarget, Program] | None:
        """The model at its starting values, if its latents are then one conjugate block."""
        values = {p.name: p.initial for p in self.parameters if p.initial is not None}
        if len(values) < len(self.parameters):
            return None
        closed = Closed(self.fn, self.parameters)
        try:
            target, prepare = conjugate_program(closed, {**rest, LEARNED: values}, blocks=self._cavi.blocks)
        except ModelError:
            return None
        return (target, prepare) if len(target.model.blocks) == 1 and LEARNED in target.program.arrays else None

    @property
    def _cavi(self) -> CAVI:
        return self.algorithm if isinstance(self.algorithm, CAVI) else CAVI()

    def run(self, target: Any, seed: int) -> Run:
        """The method's own learning, EM, or variational EM under a Gaussian."""
        if not isinstance(target, LearningTarget):
            return (yield from self.algorithm.run(target, seed))
        kinds = {p.name: p.kind for p in self.parameters}
        closed = Closed(self.fn, self.parameters)
        if target.conjugate is None and target.exact is None:
            return (yield from variational.run(self.algorithm, closed, target.data, target.precision, seed))

        def close(values: dict[str, np.ndarray]) -> ConjugateTarget:
            return conjugate_target(
                closed, {**target.data, LEARNED: values}, blocks=self._cavi.blocks, row_precision=target.row_precision
            )

        if target.conjugate is None:
            assert target.exact is not None  # one of the two is there
            return (yield from numeric.run(self._cavi, *target.exact, self.parameters, close, seed))
        initial = {p.name: p.initial for p in self.parameters if p.initial is not None}
        if isinstance(self.algorithm, SVI):
            return (yield from em.run_batches(self.algorithm, target.conjugate, initial, kinds, close, seed))
        return (yield from em.run(self._cavi, target.conjugate, initial, kinds, partial(close), seed))
