"""_nonzeros: where numbers are not 0, for kernels that have nothing to do for a 0."""

import numpy as np
from llvmlite import ir
from numba import types

from ._math import intrinsic, kernel, like, point

LOOK = 64  # values that are compared with 0 at a time: bits of a word


@intrinsic
def differ(context, real, address):
    """A word whose bit k is set where value k from this address on is not the number `real`, which has their dtype."""

    def generate(context, builder, signature, arguments):
        values, index = ir.VectorType(context.get_value_type(real), LOOK), ir.IntType(32)
        loaded = builder.load(builder.inttoptr(arguments[1], values.as_pointer()), align=real.bitwidth // 8)
        undefined = ir.Constant(values, ir.Undefined)
        number = builder.insert_element(undefined, arguments[0], index(0))
        everywhere = builder.shuffle_vector(number, undefined, ir.Constant(ir.VectorType(index, LOOK), [0] * LOOK))
        return builder.bitcast(builder.fcmp_unordered("!=", loaded, everywhere), ir.IntType(LOOK))

    return types.uint64(real, types.int64), generate


@intrinsic
def lowest(context, word):
    """The number of the lowest bit that is set, of a word that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@point
def _nonzeros(x, first):
    """A word whose bit k is set where x[first + k] is not 0; x (D,) is contiguous."""
    zero = like(x, 0.0)
    if first + LOOK <= x.size:
        return differ(zero, x.ctypes.data + first * x.itemsize)
    word = np.uint64(0)
    for j in range(first, x.size):
        word |= np.uint64(x[j] != zero) << np.uint64(j - first)
    return word


@kernel
def list_nonzeros(places, x, most):
    """places (D,) ← the columns of a contiguous x (D,) that are not 0, in order → their number.

    most   it ends early once there are more than so many
    """
    n, one = np.uint64(0), np.uint64(1)  # no signs: Numba would look at them for each element
    for first in range(0, x.size, LOOK):
        if np.int64(n) > most:
            break
        word = _nonzeros(x, first)
        while word != np.uint64(0):
            places[n] = first + lowest(word)
            word &= word - one
            n += one
    return np.int64(n)
