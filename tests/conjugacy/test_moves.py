"""Moves of the labels: what components are, that moves are exact, and that they find what starts alone miss."""

import itertools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.special import digamma, gammaln, logsumexp

import jensen as jn
from jensen._conjugate.algebra import build_conjugate
from jensen._conjugate.algebra.components import components
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate.board import boards, movable
from jensen._conjugate.coordinate.plated import ascent_for
from jensen._conjugate.coordinate.proposals import shares
from jensen._conjugate.coordinate.search import elsewhere_from, reached, settled
from jensen._conjugate.svi import SVI
from jensen._math.precision import working
from tests.conjugacy.test_history import check, reports
from tests.conjugacy.zoo import ZOO

K = 8
CENTRES = 4.0 * np.arange(K) - 14.0
LABELS = np.arange(240) % K
X = CENTRES[LABELS] + np.random.default_rng(3).normal(size=240)


def mixture(x):
    with numpyro.plate("k", K):
        mu = numpyro.sample("mu", dist.Normal(0, 10.0))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(jnp.ones(K) / K))
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)


def by_hand(x, labels, sweeps=500):
    """(means, bound) at the optimum that coordinate ascent reaches from these labels (Blei et al. 2017, section 3)."""
    r = (labels[:, None] == np.arange(K)) * 1.0
    for _ in range(sweeps):
        s2 = 1 / (1 / 100 + r.sum(0))
        m = s2 * (r.T @ x)
        logits = np.outer(x, m) - 0.5 * (m**2 + s2)
        logs = logits - logsumexp(logits, 1, keepdims=True)
        r = np.exp(logs)
    rows = -np.log(K) - 0.5 * np.log(2 * np.pi) - 0.5 * ((x[:, None] - m) ** 2 + s2) - logs
    return m, (r * rows).sum() + (0.5 - 0.5 * (m**2 + s2) / 100 + 0.5 * np.log(s2 / 100)).sum()


BEST, BOUND = by_hand(X, LABELS)
POOR = np.where(LABELS == 1, 0, np.where((LABELS == 5) & (CENTRES[5] < X), 1, LABELS))
"""Labels with two components in one and another in two."""


def test_a_mixture_that_starts_alone_get_wrong_is_right():
    alone, moved = [], []
    for seed in range(4):
        alone.append(CAVI(moves=False).fit_conjugate(mixture, {"x": X}, seed=seed).elbo)
        fit = CAVI().fit_conjugate(mixture, {"x": X}, seed=seed)
        moved.append(fit.elbo)
        np.testing.assert_allclose(np.sort(fit.means()["mu"]), np.sort(BEST), atol=1e-3)
    assert min(alone) < BOUND - 20.0  # of four starts, the best
    np.testing.assert_allclose(moved, BOUND, atol=1e-4)


def test_the_optimum_of_given_values_is_kept_and_the_account_is_given():
    there = {"c": POOR}
    fit = CAVI().fit_conjugate(mixture, {"x": X}, init=there)
    assert fit.elbo == pytest.approx(by_hand(X, POOR)[1], abs=1e-4)
    assert "moves" not in fit.status
    assert (
        " moves of components (merge, dissolve, split) were tried; " in CAVI().fit_conjugate(mixture, {"x": X}).status
    )


@pytest.mark.parametrize("rows", [240, 4320])
def test_a_move_raises_the_exact_bound_and_keeps_every_sweep_exact(rows):
    """Rows held as a whole, and streamed with moves on some of them; the bound by hand before and after."""
    x, labels = np.tile(X, rows // 240), np.tile(POOR, rows // 240)
    with working("double"):
        model = build_conjugate(mixture, {"x": x})
        ascent, rng = ascent_for(model), np.random.default_rng(0)
        state = ascent.advance(ascent_for(model, {"c": labels}).given(rng, {"c": labels}), 200)
        assert state.elbo == pytest.approx(by_hand(x, labels)[1], rel=1e-9)
        (board,) = boards(ascent, rng)
        higher, tally = elsewhere_from(board, state, rng)
        assert higher is not None
        assert tally.kept >= 1
        assert higher.history[: state.sweeps] == state.history
        assert np.all(np.diff(higher.history) >= -1e-9 * abs(state.elbo))
        end = ascent.advance(higher, 200)  # every sweep's gains are checked against the bound
    assert end.elbo == pytest.approx(by_hand(x, np.tile(LABELS, rows // 240))[1], rel=1e-9)


@pytest.mark.parametrize("labels", [LABELS, POOR], ids=["best", "poor"])
def test_going_on_as_before_is_no_move(labels):
    """From a state whose bound still rises, sweeps with its own labels rise above it, and are not kept for that."""
    with working("double"):
        ascent = ascent_for(build_conjugate(mixture, {"x": 0.5 * X}))
        (board,) = boards(ascent, np.random.default_rng(0))
        state = settled(board, ascent.given(np.random.default_rng(0), {"c": labels}))
        again = board.placed(shares(board.potentials(state)), state)
        assert board.swept(again, 60).elbo > state.elbo + 1e-6 * board.scalars
        assert reached(board, again, state) is None


def test_sweeps_after_a_move_are_numbered_on_and_have_their_own_bound(monkeypatch):
    monkeypatch.setattr("jensen._conjugate.cavi.started", lambda ascent, *_: ([poor(ascent)], _tally()))

    def poor(ascent):
        return ascent.advance(ascent.begin({**_random(ascent), "c": {"indicator": np.eye(K)[POOR]}}), 9)

    ascent, _, outcome = reports(jn.cavi(restarts=1), mixture, {"x": X})
    check(ascent, [0, len(ascent) // 2, len(ascent) - 2, len(ascent) - 1])
    assert outcome.certificate["elbo"] == pytest.approx(BOUND, abs=1e-4)


def _tally():
    from jensen._conjugate.coordinate.search import Tally

    return Tally()


def _random(ascent):
    from jensen._conjugate.coordinate.starts import random_start

    return random_start(ascent.model, np.random.default_rng(0), False)


def test_steps_on_batches_find_all_components():
    fit = SVI(batch_size=80).fit_conjugate(mixture, {"x": X})
    np.testing.assert_allclose(np.sort(fit.means()["mu"]), np.sort(BEST), atol=0.05)
    assert fit.elbo == pytest.approx(BOUND, abs=0.1)


FOUND = {
    "unit_mixture": {"c": {"mu"}},
    "full_mixture": {"c": {"mu", "precision", "weights"}},
    "stick_breaking": {"c": {"mu"}},  # its weights have an order
    "lda_documents": {"z": {"phi", "theta"}},
    "mixed_membership": {"s": {"a", "eta"}, "t": {"b", "eta"}},
    "chain_gaussian": {"s": {"mu", "rows", "tau"}},
    "chosen_by_where": {"z": set()},
}


@pytest.mark.parametrize("name", FOUND)
def test_components_are_found_in_the_program(name):
    fn, data = ZOO[name]
    model = build_conjugate(fn, data)
    found = {block: {site for site, _ in components(model, block)} for block in FOUND[name]}
    assert found == FOUND[name]


def test_what_tells_entries_apart_is_no_component():
    def half_labelled(x, y, known):
        with numpyro.plate("k", 2):
            mu = numpyro.sample("mu", dist.Normal(0, 5.0))
        with numpyro.plate("seen", len(y)):
            numpyro.sample("y", dist.Normal(mu[known], 1.0), obs=y)
        with numpyro.plate("row", len(x)):
            c = numpyro.sample("c", dist.Categorical(jnp.ones(2) / 2))
            numpyro.sample("x", dist.Normal(mu[c], 1.0), obs=x)

    def ordered(x):
        with numpyro.plate("k", 2):
            mu = numpyro.sample("mu", dist.Normal(jnp.array([-3.0, 3.0]), 1.0))
        with numpyro.plate("row", len(x)):
            c = numpyro.sample("c", dist.Categorical(jnp.ones(2) / 2))
            numpyro.sample("x", dist.Normal(mu[c], 1.0), obs=x)

    rows = np.linspace(-4, 4, 20)
    assert movable(build_conjugate(half_labelled, {"x": rows, "y": rows[:3], "known": np.array([0, 1, 1])})) == ()
    assert movable(build_conjugate(ordered, {"x": rows})) == ()


WORDS, DOC, PRIOR = np.array([3, 1, 2, 0, 3, 0, 1, 2, 0, 1, 0]), np.repeat([0, 1, 2], [4, 4, 3]), 0.05


def topics(doc, word):
    with numpyro.plate("topic", 2):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(5, PRIOR)))
    with numpyro.plate("document", 3):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(2, PRIOR)))
    with numpyro.plate("token", len(word)):
        z = numpyro.sample("z", dist.Categorical(theta[doc]))
        numpyro.sample("w", dist.Categorical(phi[z]), obs=word)


def best_of_all_labels():
    """The highest bound that coordinate ascent reaches from any assignment of the tokens to topics."""

    def total(counts):
        """Σ log B(c) of Dirichlets with these concentrations."""
        return (gammaln(counts).sum(-1) - gammaln(counts.sum(-1))).sum(-1)

    def expected_log(counts):
        return digamma(counts) - digamma(counts.sum(-1, keepdims=True))

    z = np.array(list(itertools.product(range(2), repeat=len(WORDS))))[: 2 ** (len(WORDS) - 1)]
    r = np.stack([z == 0, z == 1], -1) * 1.0
    in_doc, in_word = DOC[:, None] == np.arange(3), WORDS[:, None] == np.arange(5)
    for _ in range(300):
        theta = PRIOR + np.einsum("snk,nd->sdk", r, in_doc)
        phi = PRIOR + np.einsum("snk,nv->skv", r, in_word)
        logits = expected_log(theta)[:, DOC] + np.moveaxis(expected_log(phi)[:, :, WORDS], 1, 2)
        normaliser = logsumexp(logits, -1)
        r = np.exp(logits - normaliser[..., None])
    theta, phi = (
        PRIOR + np.einsum("snk,nd->sdk", r, in_doc),
        PRIOR + np.einsum("snk,nv->skv", r, in_word),
    )
    entropy = -(r * np.log(np.maximum(r, 1e-300))).sum((1, 2))
    priors = 3 * total(np.full(2, PRIOR)[None]) + 2 * total(np.full(5, PRIOR)[None])
    return float((total(theta) + total(phi) + entropy - priors).max())


def test_topics_with_sparse_priors_end_at_the_best_optimum():
    best = best_of_all_labels()
    for seed in range(3):
        fit = CAVI().fit_conjugate(topics, {"doc": DOC, "word": WORDS}, seed=seed)
        assert fit.elbo == pytest.approx(best, abs=1e-5)
    alone = CAVI(moves=False).fit_conjugate(topics, {"doc": DOC, "word": WORDS}, seed=0)
    assert alone.elbo < best - 1.0  # or there would be nothing to move
