"""A fit from a file, with its model and data again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jensen._base.errors import OptionError
from jensen._core.estimates import Estimate
from jensen._data.sources import AbstractSource
from jensen._fit.answers import kind_named
from jensen._fit.fingerprint import check_same
from jensen._math.precision import default_precision
from jensen._model.door import opened
from jensen._model.parameters import closed_at
from jensen._program.indices import checked
from jensen._program.purity import repeatable

if TYPE_CHECKING:
    from jensen._fit.result import Fit


def attached(fit: Fit, model: Any, data: Mapping[str, Any] | None, encoder: Any) -> Fit:
    """`Fit.attach`."""
    data = opened(model, data, default_precision())
    saved = fit.stored.get("answer")
    kind = kind_named(saved["kind"]) if saved else type(fit.answer)
    if fit.estimates:
        model, data = closed_at(model, data, fit.estimates)
    model, _ = repeatable(model, data, default_precision())
    options = fit.options if encoder is None else {**fit.options, "encoder": encoder}
    if not isinstance(data, AbstractSource):
        checked(model, data, default_precision())
    target = kind.prepared(model, data, default_precision(), options)
    for name, site in fit.structure.sites.items():
        other = target.structure.sites.get(name)
        if other is None or (site.kind == "latent" and other.unconstrained_shape != site.unconstrained_shape):
            raise OptionError(
                f"This model does not match the saved fit at site '{name}'.",
                f"Saved shape {site.shape}, model's {other.shape if other else 'none'}.",
                "Attach the model it was fitted with.",
            )
    for site in target.structure.latents:
        if site.name not in fit.structure.sites and not kind.partial:
            raise OptionError(
                f"This model does not match the saved fit: its latent site '{site.name}' was not there.",
                f"Saved latents: {', '.join(s.name for s in fit.structure.latents)}.",
                "Attach the model it was fitted with.",
            )
    target = kind.on_chart(target, saved["parameters"] if saved else fit.answer.parameters())
    known = {name: fit.stored[name] for name in ("report", "evidence", "summary") if name in fit.stored}
    outcome = replace(fit.outcome, q=kind.restored(saved["parameters"], target)) if saved else fit.outcome
    found = replace(fit, target=target, structure=target.structure, stored=known, outcome=outcome)
    if check_same(fit._fingerprint, found.answer, fit.structure, kind.partial):
        return found
    # What was measured on data that may have been others is measured again.
    facts = replace(outcome.certificate, elbo=None, elbo_se=None)
    renewed = replace(found, stored={}, outcome=replace(outcome, certificate=facts))
    return replace(renewed, elbo=Estimate(*renewed.answer.elbo(fit.seed)))
