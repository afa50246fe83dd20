"""Threads of one process, a forked child, NumPy's own error state: right answers, or a sentence."""

import asyncio
import os
import signal
import sys
import threading
import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.primitives import _PYRO_STACK

import jensen as jn

Y = [np.random.default_rng(i).normal(3 * i, 1, 20) for i in range(3)]
RIGHT = [y.sum() / 20.01 for y in Y]


def model_of(i):
    def model(y):
        mu = numpyro.sample(f"mu{i}", dist.Normal(0, 10))
        numpyro.sample(f"y{i}", dist.Normal(mu, 1), obs=y)

    return model


MODELS = [model_of(i) for i in range(3)]


def fitted(i):
    return jn.fit(MODELS[i], {"y": Y[i]}, "laplace", progress=False)


def together(*works):
    """What each function returns, all of them run at once in threads that change places often."""
    found = [None] * len(works)

    def run(i):
        try:
            found[i] = works[i]()
        except BaseException as error:
            found[i] = error

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return found


@pytest.fixture(autouse=True)
def _no_handler_is_left():
    yield
    assert _PYRO_STACK == []


def test_fits_explanations_and_predictions_at_once():
    def everything(i):
        jn.explain(MODELS[i], {"y": Y[i]})
        fit = fitted(i)
        return fit.check().verdict, fit.summary()["mean"], fit.predict(num_draws=5), fit.to_arviz(5)

    for i, (verdict, mean, predicted, tree) in enumerate(together(*(lambda i=i: everything(i) for i in range(3)))):
        assert verdict == "trusted"
        assert list(mean.index) == [f"mu{i}"]
        assert mean.iloc[0] == pytest.approx(RIGHT[i], abs=0.02)
        assert list(predicted) == [f"y{i}"]
        assert list(tree["posterior"]) == [f"mu{i}"]


def test_one_fit_asked_by_several_threads():
    fit, alone = fitted(0), fitted(0)
    check, pool, summary, draws, evidence = together(
        fit.check, lambda: fit.pool, fit.summary, lambda: fit.sample(5), fit.evidence
    )
    assert check == alone.check() == fit.check()
    assert pool is fit.pool
    assert summary.equals(alone.summary())
    np.testing.assert_array_equal(draws["mu0"], alone.sample(5)["mu0"])
    assert evidence == alone.evidence()


def test_coroutines():
    async def gather():
        return await asyncio.gather(*(asyncio.to_thread(fitted, i) for i in range(3)))

    means = [fit.summary()["mean"].iloc[0] for fit in asyncio.run(gather())]
    assert means == pytest.approx(RIGHT, abs=0.02)


def test_a_failed_or_interrupted_fit_leaves_no_handler():
    def failing(y):
        numpyro.sample("mu", dist.Normal(0, 10))
        raise RuntimeError("no")

    def stopped(y):
        numpyro.sample("mu", dist.Normal(0, 10))
        numpyro.handlers.seed(rng_seed=0).__enter__()  # as where an interruption comes before the exit
        raise KeyboardInterrupt

    found = together(lambda: jn.fit(failing, {"y": Y[0]}), lambda: jn.fit(stopped, {"y": Y[0]}), lambda: fitted(0))
    assert isinstance(found[0], jn.ModelError)
    assert isinstance(found[1], KeyboardInterrupt)
    assert found[2].summary()["mean"].iloc[0] == pytest.approx(RIGHT[0], abs=0.02)


def test_handlers_around_a_fit_are_none_of_its_model():
    with numpyro.handlers.trace() as trace, numpyro.handlers.seed(rng_seed=0):
        fit = fitted(0)
        assert fit.summary()["mean"].iloc[0] == pytest.approx(RIGHT[0], abs=0.02)
        numpyro.sample("own", dist.Normal(0, 1))
    assert list(trace) == ["own"]


def test_inside_a_compiled_function_there_are_no_numbers():
    with pytest.raises(jn.JensenError, match=r"inside a function that JAX compiles.*Call it outside"):
        jax.jit(lambda y: jn.fit(MODELS[0], {"y": y}).elbo)(Y[0])
    means = jax.grad(lambda x: x * fitted(0).summary()["mean"].iloc[0])(1.0)  # which has numbers
    assert float(means) == pytest.approx(RIGHT[0], abs=0.02)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_gets_a_sentence():
    fit = fitted(0)
    calls = (lambda: fitted(0), fit.summary, lambda: fit.predict(), lambda: jn.explain(MODELS[0], {"y": Y[0]}))
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of the fork itself
        child = os.fork()
    if not child:
        signal.alarm(60)  # instead of standing still
        for call in calls:
            try:
                call()
            except jn.JensenError as error:
                os.write(write, b"1" if "spawn" in str(error) else b"0")
        os._exit(0)
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(read, 10) == b"1" * len(calls)
    os.close(read)
    assert fitted(0).check().verdict == "trusted"


def test_numpys_error_state_is_the_users():
    with np.errstate(all="raise"):
        fit = fitted(0)
        assert fit.check().verdict == "trusted"
        assert fit.summary()["mean"].iloc[0] == pytest.approx(RIGHT[0], abs=0.02)
        assert np.isfinite(fit.evidence().log_evidence)
        assert len(fit.predict(num_draws=3)["y0"]) == 3
        assert np.geterr()["under"] == "raise"
