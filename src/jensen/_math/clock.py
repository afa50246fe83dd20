"""Seconds spent, compilation and running apart."""

import threading
import time

import jax.monitoring

_COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


class _Meter:
    """Process-wide totals fed by JAX's own compile events."""

    def __init__(self) -> None:
        self.seconds, self.programs = 0.0, 0
        self._lock = threading.Lock()
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **_: object) -> None:
        if event in _COMPILE_EVENTS:
            with self._lock:
                self.seconds += duration_secs
                self.programs += event == _COMPILE_EVENTS[-1]


_METER = _Meter()


def programs_compiled() -> int:
    """XLA programs compiled by this process since jensen was imported."""
    return _METER.programs


class Stopwatch:
    """Wall seconds since it was made: `total`, and of these `compile` (tracing, lowering, XLA) and `run`."""

    def __init__(self) -> None:
        self._wall, self._compile, self._programs = time.perf_counter(), _METER.seconds, _METER.programs

    def read(self) -> dict[str, float]:
        """`{"total", "compile", "run", "programs"}` so far."""
        total = time.perf_counter() - self._wall
        compiled = min(_METER.seconds - self._compile, total)
        return {
            "total": total,
            "compile": compiled,
            "run": total - compiled,
            "programs": float(_METER.programs - self._programs),
        }


def spoken(seconds: float) -> str:
    """Roughly, in words: `spoken(100)` is "2 minutes"."""
    if seconds < 45:
        return "half a minute or less"
    if seconds < 5400:
        minutes = max(1, round(seconds / 60))
        return f"{minutes} minute{'s' * (minutes > 1)}"
    return f"{round(seconds / 3600)} hours"
