"""The table of ops (`kernels/_op.py`) as tests walk it: every op and case on its own example, and how runs compare."""

import numpy as np
import pytest
from tolerances import assert_close

from minivae import kernels

OPS = kernels.ops()
DTYPES = ("float32", "float64")


def cases(*names):
    """(op, case) of these ops, or of all, as parameters of a test."""
    chosen = names or OPS
    return [pytest.param(name, case, id=f"{name} {case}".strip()) for name in chosen for case in OPS[name].cases]


# Ops that loop over flat arrays, and flush small moments to 0.
OPTIMISERS = [name for name, op in OPS.items() if "P" in op.updated]
# The likelihoods: raw outputs of the decoder in, loss and gradient out.
LIKELIHOODS = [name for name, op in OPS.items() if "nll_rows" in op.outputs]
# Those that write the loss alone where they are given no array for the gradient.
FORWARD_ONLY = [name for name, op in OPS.items() if op.optional]


def example(name, case, dtype, shape, seed=0):
    """The op's arguments for (S, B, D)."""
    return list(OPS[name].example(np.random.default_rng(seed), dtype, *shape, case))


def index(name, argument):
    """The place of an argument, by its name."""
    return OPS[name].names.index(argument)


def copies(arguments):
    return [x.copy() if isinstance(x, np.ndarray) else x for x in arguments]


def after(function, arguments):
    """The arguments after the function ran on copies of them."""
    given = copies(arguments)
    with np.errstate(all="ignore"):
        function(*given)
    return given


def by_reference(name, arguments):
    """The arguments after the op's reference ran on copies of them."""
    return after(lambda *given: OPS[name].reference(np, *given), arguments)


def forward_only(name, arguments):
    """The arguments without their optional outputs."""
    given = zip(OPS[name].names, arguments, strict=True)
    return [None if argument in OPS[name].optional else x for argument, x in given]


def assert_only_the_first_was_written(name, arguments, mine):
    for argument, before, after in list(zip(OPS[name].names, arguments, mine, strict=True))[1:]:
        if isinstance(before, np.ndarray) and argument not in OPS[name].scratch:
            np.testing.assert_array_equal(after, before, err_msg=f"{argument} was changed")


def assert_same(name, arguments, mine, expected, dtype):
    """Results are those expected, within what their sums allow; everything else but scratch is as it was."""
    op = OPS[name]
    scale = op.scale(*arguments)
    for i, argument in enumerate(op.names):
        if not isinstance(arguments[i], np.ndarray) or argument in op.scratch:
            continue
        if i not in op.written:
            np.testing.assert_array_equal(mine[i], arguments[i], err_msg=f"{argument} was changed")
        elif arguments[i].dtype.kind == "f":
            assert not np.isnan(expected[i]).any(), argument
            assert_close(mine[i], expected[i], dtype, scale)
        else:
            np.testing.assert_array_equal(mine[i], expected[i], err_msg=argument)
