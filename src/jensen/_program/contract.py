"""A model as the rest of the library sees it, whatever language it is written in."""

import abc
import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx

from jensen._base.errors import UndefinedError
from jensen._base.typing import Flat, Latent, PRNGKey, Terms
from jensen._core import AbstractModel
from jensen._data.data_check import check_keys
from jensen._program.bijection import SiteBijection
from jensen._program.static_arguments import Frozen
from jensen._program.structure import Site, Structure
from jensen._program.with_data import AbstractWithData


class AbstractProgram(abc.ABC):
    """A model before it meets its data: sites, supports, plates, dependence; log joint by site and row; prediction.

    A front end for another language says `arguments`, `analyse` and `log_joint`, and where its models have them the
    values of observed and computed sites, and how sites are drawn (`forward`). Everything else follows: coordinates,
    batches of draws, the verdict, tables, files. Arrays of the data come traced, so that one compiled program serves
    all data of the same shapes; what `analyse` needs as a number it may ask for by Python's means, and then gets it.

    Attributes:
        handled: whether it is a NumPyro program, which effect handlers can run in other ways: coordinate ascent,
            parameters that are learned, rows in batches and exact sums over discrete latents need that.
        traced: whether JAX can trace and differentiate it.
        starts: values of all latents where climbs are to begin, if the user gave any.
    """

    handled: ClassVar[bool] = False
    traced: bool = True
    starts: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return type(self).__name__

    @property
    def fn(self) -> Any:
        """The user's function, where there is one: errors inside it are shown at its lines."""
        return self

    @property
    @abc.abstractmethod
    def arguments(self) -> tuple[str, ...] | None:
        """Names of the data that it takes; `None` for any."""

    @abc.abstractmethod
    def analyse(self, arrays: dict[str, Any], fixed: dict[str, Any], *, discrete: bool = False) -> Structure:
        """Sites, supports and plates on these data: traced arrays, and values; discrete latents only where asked for.

        Raises a `ModelError` that names the site for what no method could use.
        """

    @abc.abstractmethod
    def log_joint(self, latent: Mapping[str, Any], data: Mapping[str, Any]) -> Terms:
        """Elementwise log densities in nats, one array for each latent and observed site, over the site's plates."""

    def computed(self, latent: Mapping[str, Any], data: Mapping[str, Any]) -> Latent:
        """The deterministic sites of `analyse` at values of the latents."""
        del latent, data
        return {}

    def observed(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the observed sites."""
        del data
        return {}

    def forward(self, given: Mapping[str, Any], data: Mapping[str, Any], key: PRNGKey) -> dict[str, Any]:
        """One draw of every latent and observed site, but for those that are given, which keep their values.

        From the prior where nothing is given, from the predictive where the latents are. Outcomes in `data` are
        `None`, or are not to be looked at.
        """
        del given, data, key
        raise UndefinedError(
            f"A {type(self).__name__} does not say how its sites are drawn.", "", "Write the model in NumPyro."
        )

    def check_names(self, data: Mapping[str, Any]) -> None:
        """Raise a `DataError` unless the data have exactly the names of `arguments`."""
        check_keys(self.arguments, self.arguments or (), data)

    def latents(self, data: Mapping[str, Any]) -> list[Site]:
        """The latent sites, discrete ones included."""
        return self.analyse({}, dict(data), discrete=True).latents

    def again(self) -> Any:
        """Another object with the same code, for which compiled programs are made anew."""
        return copy.copy(self)

    def bind(self, structure: Structure, arrays: dict[str, Any], fixed: Frozen, evaluable: bool) -> AbstractModel:
        """The log joint with its data inside; with `evaluable=False` it is only looked at."""
        del evaluable
        return ProgramModel(program=self, data=arrays, fixed=fixed, bijection=SiteBijection(structure, {}))


class ProgramModel(AbstractWithData):
    """A program bound to its data: `data` are arguments of compiled programs, `fixed` are constants of them."""

    program: AbstractProgram = eqx.field(static=True)

    @property
    def source(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """The program with its data."""
        return self.program, self.data, self.fixed.value

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """The program's own."""
        del batch
        return self.program.log_joint(latent, self.kwargs)

    def constrain(self, point: Flat) -> Latent:
        """Latents at u, and the deterministic sites at them."""
        latent, _ = self.bijection.forward(point)
        return {**latent, **self.program.computed(latent, self.kwargs)}
