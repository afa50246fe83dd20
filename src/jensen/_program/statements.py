"""What a sample statement of a trace contributes to the log joint."""

from typing import Any


def log_prob(site: dict[str, Any]) -> Any:
    """Its elementwise log density in nats, mask and scale applied."""
    fn, value, between = site["fn"], site["value"], site["intermediates"]
    term = fn.log_prob(value, between) if between else fn.log_prob(value)
    return term if site["scale"] is None else site["scale"] * term
