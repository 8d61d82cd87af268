"""Bits inside compiled kernels: each function here is one machine instruction where the processor has it."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def popcount(_typing: Any, _value: Any) -> Any:
    """Number of set bits of a uint64."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def differing(_typing: Any, _first: Any, _second: Any) -> Any:
    """Number of bits in which two uint32 differ, as uint32: loops over it become vector instructions."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(builder.xor(*arguments))

    return types.uint32(types.uint32, types.uint32), generate


@intrinsic
def trailing_zeros(_typing: Any, _value: Any) -> Any:
    """Number of zeros below the lowest set bit of a uint64 that is not 0."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
def bits_from(_typing: Any, array: Any, _place: Any) -> Any:
    """The bits of a uint64 array from bit `place` on, lowest first, as uint64: at least 57 of them are those.

    The word behind the one that holds `place` must be there. Little-endian processors only, as all that numba knows.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = arguments[1]
        octets = builder.bitcast(data, ir.IntType(8).as_pointer())
        octet = builder.gep(octets, [builder.lshr(place, ir.Constant(place.type, 3))])
        loaded = builder.load(builder.bitcast(octet, ir.IntType(64).as_pointer()))
        loaded.align = 1
        return builder.lshr(loaded, builder.and_(place, ir.Constant(place.type, 7)))

    return types.uint64(array, types.uint64), generate
