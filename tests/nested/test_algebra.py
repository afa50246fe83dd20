"""The algebra of a precision in the order that its structure has, against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._nested import elimination, laplace, selected_inverse
from jensen._nested.elimination import eliminated
from jensen._nested.factor import Entries
from jensen._nested.order import Order
from jensen._nested.unsummed import Unsummed

RNG = np.random.default_rng(11)


def pattern_of(size, ends):
    found = sparse.lil_matrix((size, size), dtype=bool)
    found[ends[0], ends[1]] = True
    turn = RNG.permutation(size)
    both = sparse.csr_matrix(found + found.T + sparse.eye(size, dtype=bool))
    return sparse.csr_matrix(both[turn][:, turn])


def map_with_own_effects(side=8):
    places = np.arange(side * side).reshape(side, side)
    own = np.arange(side * side)
    first = np.r_[places[:, :-1].ravel(), places[:-1].ravel(), own]
    return pattern_of(2 * side * side, (first, np.r_[places[:, 1:].ravel(), places[1:].ravel(), own + side * side]))


def crossed(large=40, small=12):
    return pattern_of(large + small, (RNG.integers(0, large, 150), large + RNG.integers(0, small, 150)))


def nested(schools=15):
    classes, school = np.arange(4 * schools), np.arange(schools)
    ends = np.r_[1 + schools + classes, 1 + school], np.r_[1 + classes // 4, 0 * school]
    return pattern_of(1 + 5 * schools, ends)


def told(order, entries, right):
    """Everything that the algebra says of a matrix."""

    def log_det(entries):
        return order.log_det_of(entries, order.cholesky(entries))

    factor = order.cholesky(entries)
    root = order.multiply(factor, jnp.eye(order.size))
    slopes = jax.grad(log_det)(entries), jax.grad(lambda x: order.log_det(order.cholesky(x)))(entries)
    solved = order.solve(factor, right), order.solve_lower(factor, right), order.solve_upper(factor, right)
    return root, solved, (log_det(entries), order.log_det(factor)), slopes, order.product(entries, right)


@pytest.mark.parametrize(
    ("pattern", "stages", "blocks"),
    [(map_with_own_effects, 1, 4), (crossed, 1, 1), (nested, 2, 1)],
    ids=["map", "crossed", "nested"],
)
def test_factor_solutions_and_log_det_are_those_of_the_dense_matrix(pattern, stages, blocks, monkeypatch):
    monkeypatch.setattr(elimination, "LITTLE", 0.0)
    monkeypatch.setattr(elimination, "WORTH", 1.5)
    monkeypatch.setattr(selected_inverse, "HALVED", 4)
    found = pattern()
    order, size = Order(None, eliminated(found)), found.shape[0]
    assert len(order.elimination.stages) >= stages
    assert order.blocks >= blocks
    dense = np.tril(found.toarray() * RNG.normal(size=(size, size)), -1)
    dense = dense + dense.T + np.diag(np.abs(dense + dense.T).sum(axis=1) + RNG.uniform(0.5, 1.0, size))
    row, column = np.divmod(order.elimination.keys, size)
    columns, weights = RNG.normal(size=(size, 2)), np.array([3.0, -1e-4])
    whole = dense + (columns * weights) @ columns.T
    right = RNG.normal(size=(size, 3))
    with working("double"):
        entries = Entries(dense[row, column], columns, weights)
        root, solved, dets, slopes, product = jax.device_get(Program(told)(order, entries, right))
    np.testing.assert_allclose(root @ root.T, whole, atol=1e-11)
    expected = np.linalg.solve(whole, right), np.linalg.solve(root, right), np.linalg.solve(root.T, right)
    for one, other in zip(solved, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)
    np.testing.assert_allclose(dets, np.linalg.slogdet(whole)[1], atol=1e-11)
    np.testing.assert_allclose(product, whole @ right, atol=1e-11)
    inverse = np.linalg.inv(whole)
    by_entry = np.where(row == column, 1.0, 2.0) * inverse[row, column]
    exact = by_entry, 2.0 * inverse @ columns * weights, np.diagonal(columns.T @ inverse @ columns)
    for slope in slopes:
        for one, other in zip(slope, exact, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-10)


def test_the_larger_of_two_crossed_plates_is_eliminated_and_the_smaller_is_left():
    large, small = 400, 60
    ends = np.repeat(np.arange(large), 8), large + RNG.integers(0, small, 8 * large)
    order = eliminated(pattern_of(large + small, ends))
    assert sum(len(stage.own) for stage in order.stages) == large
    assert order.line.latent.shape == (small,)


def test_a_long_chain_is_halved_and_knows_its_stretches():
    chain = pattern_of(8000, (np.arange(7999), np.arange(1, 8000)))
    order = eliminated(chain)
    assert len(order.stages) == 1
    assert order.stretches == 500
    ends = chain.tocoo()
    assert set(np.abs(order.stretch[ends.row] - order.stretch[ends.col])) == {0, 1}


def test_a_chain_stays_a_line():
    line = eliminated(pattern_of(3000, (np.arange(2999), np.arange(1, 3000))))
    assert line.stages == ()
    assert line.line.blocks > 100
    order, right = Order(None, line), RNG.normal(size=(3000, 2))  # NumPy's, as a density not compiled takes it
    values = 1.0 + 3.0 * (line.keys % 3001 == 0)
    with jax.enable_x64(True):
        factor = order.cholesky(Entries(jnp.asarray(values), jnp.zeros((3000, 0)), jnp.zeros(0)))
        found = order.solve_upper(factor, np.asarray(order.solve_lower(factor, right)))
        np.testing.assert_allclose(found, order.solve(factor, right))
        solved = np.asarray(found)
    lower = sparse.coo_matrix((values, np.divmod(line.keys, 3000)), (3000, 3000)).tocsr()
    matrix = lower + sparse.triu(lower.T, 1)
    np.testing.assert_allclose(matrix @ solved, right, atol=1e-9)


def test_one_look_at_the_curvature_does_for_a_search_that_begins_next_to_the_mode(monkeypatch):
    monkeypatch.setattr(laplace, "MOST", 1)
    order, mode = Order.dense(2), np.log([2.0, 0.5])

    def found(start):
        density = Unsummed(lambda z: jnp.sum(jnp.array([2.0, 0.5]) * z - jnp.exp(z)), start, None)
        return laplace.mode(density, start, order).z

    with working("double"):
        search = Program(found)
        np.testing.assert_allclose(search(mode + 1e-4), mode, atol=1e-8)
        assert np.abs(search(mode + 0.1) - mode).max() > 0.05  # no last step from there
