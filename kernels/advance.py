"""advance: the first thing a captured training step does. What changes from step to step stands in device memory, and
here the step advances itself: nothing is sent from the host.

    now ← table[c₀];   index ← order[c₁ … c₁ + B − 1];   c ← c + (1, B)

Shapes: now (K,) and table (steps, K), the numbers of this step and of all; index (B,) the rows of this batch, order
(N,) those of the epoch; cursor c (2,). dtype: numbers float64, the rest int64.
"""

import numpy as np

from . import _cuda
from ._math import kernel
from ._op import Op, poison


def reference(xp, now, index, cursor, table, order):
    """The numbers and the rows of the next step.

    now        (K,)        out
    index      (B,)        out
    cursor     (2,)        in and out: the row of the table, and the first row of the batch
    table      (steps, K)
    order      (N,)
    """
    now[...] = xp.take(table, cursor[0], axis=0)
    index[...] = xp.take(order, cursor[1] + xp.arange(index.size))
    cursor[0] += 1
    cursor[1] += index.size


@kernel
def fused(now, index, cursor, table, order):
    """The fused `reference`."""
    for k in range(now.size):
        now[k] = table[cursor[0], k]
    for i in range(index.size):
        index[i] = order[cursor[1] + i]
    cursor[0] += 1
    cursor[1] += index.size


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(now, index, cursor, table, order):
    """The kernel of `advance.cu`; arguments as `reference`."""
    one_block = ((1,), (4 * _cuda.THREADS,))
    _cuda.launch("advance", "advance", one_block, now, index, cursor, table, order, now.size, index.size)


def example(rng, dtype, S, B, D, case):
    """The third of five steps."""
    table, order = rng.normal(size=(5, D)), rng.permutation(4 * B)
    return poison("float64", D), np.full(B, -1), np.array([2, 2 * B]), table, order


OPS = {
    "advance": Op(
        reference, fused, cuda, example,
        outputs=("now", "index"), updated=("cursor",), double=("now", "table"),
        moved=lambda now, index, cursor, table, order: 2 * (now.nbytes + index.nbytes + cursor.nbytes),
    )
}  # fmt: skip
