"""What is known of JAX's primitives by their names: one table for all who read a traced program."""

LOOPS = frozenset(["scan", "while", "cond"])

ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz
    convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le lgamma log log1p logistic lt max min mul mul_no_nan ne neg
    nextafter not or polygamma population_count pow random_gamma_grad real reduce_precision regularized_incomplete_beta
    rem round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh xor zeta""".split()  # noqa: SIM905
)

REDUCTIONS = frozenset("reduce_sum reduce_max reduce_min reduce_and reduce_or reduce_prod argmax argmin".split())  # noqa: SIM905

MOVEMENT = {
    "broadcast_in_dim": 1,
    "reshape": 1,
    "transpose": 1,
    "squeeze": 1,
    "expand_dims": 1,
    "slice": 1,
    "rev": 1,
    "split": 1,
    "concatenate": 0,
    "stack": 0,
    "dynamic_slice": 1,
    "gather": 1,
}
"""Operations that only move entries -> how many of their arguments hold entries (0: all), the others being indices."""

PLACING = frozenset(MOVEMENT) | {"dynamic_update_slice", "pad", "scatter", "tile", "unstack"}
"""Operations whose results hold entries of their arguments and no others."""

RESHAPING = frozenset(["reshape", "broadcast_in_dim", "squeeze", "convert_element_type", "copy"])
"""Operations of one argument that keep its entries, up to their type and the shape."""
