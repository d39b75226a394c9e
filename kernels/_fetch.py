"""fetch: have the memory that a loop will read brought into the cache while it computes on what it has.

A processor sees by itself what a loop will read next, but only to the end of a page of 4 KiB. A pass over four arrays
that lie outside the cache would wait at every page of each.
"""

from llvmlite import ir
from numba import types

from ._math import inlined, intrinsic

LINE_BYTES = 64


@intrinsic
def _line(context, address):
    """Ask for the cache line of this address, which need not be that of any array."""

    def generate(context, builder, signature, values):
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), kind)
        to_read, close, data = number(0), number(3), number(1)
        builder.call(ask, [builder.inttoptr(values[0], pointer), to_read, close, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@inlined
def fetch(address, n):
    """Ask for the n bytes from an address on."""
    for offset in range(0, n, LINE_BYTES):
        _line(address + offset)
