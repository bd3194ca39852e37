"""Eight numbers at a time: what compilers do not find in plain loops.

A plain loop over a row's classes, with sums in memory and scalar ends, takes twice as
long as these, which keep the sums of up to 64 classes in registers. Rows are padded to
a multiple of LANES numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sklinear._solvers._dual_blocks import compiled, numba

LANES = 8  # of a vector: float32 on AVX2; elsewhere they are taken in halves


def padded(k: int) -> int:
    """The least multiple of LANES that is not less than k."""
    return -(-k // LANES) * LANES


def _intrinsic(function: Callable) -> Any:
    """A function that writes machine code."""
    if numba is None:
        return function
    from numba.extending import intrinsic

    return intrinsic(prefer_literal=True)(function)


class _Code:
    """Instructions of one function, in the words that are needed here."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any):
        from llvmlite import ir

        self.ir, self.builder = ir, builder
        self.context, self.sig, self.args = context, sig, args
        self.size = ir.IntType(64)

    def pointer(self, place: int) -> Any:
        """To the numbers of an array among the arguments."""
        array = self.context.make_array(self.sig.args[place])
        return array(self.context, self.builder, self.args[place]).data

    def at(self, pointer: Any, offset: Any) -> Any:
        """A pointer to a vector."""
        vector = self.ir.VectorType(pointer.type.pointee, LANES)
        place = self.builder.gep(pointer, [offset])
        return self.builder.bitcast(place, vector.as_pointer())

    def load(self, pointer: Any, offset: Any) -> Any:
        """A vector, however it lies."""
        return self.builder.load(self.at(pointer, offset), align=4)

    def store(self, value: Any, pointer: Any, offset: Any) -> None:
        """A vector, however it lies."""
        self.builder.store(value, self.at(pointer, offset), align=4)

    def spread(self, value: Any) -> Any:
        """A vector of equal numbers."""
        none = self.ir.Constant(
            self.ir.VectorType(value.type, LANES), self.ir.Undefined
        )
        int32 = self.ir.IntType(32)
        one = self.builder.insert_element(none, value, int32(0))
        first = self.ir.Constant(self.ir.VectorType(int32, LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, none, first)

    def row(self, data: Any, indices: Any, t: Any, width: Any, offset: Any) -> Any:
        """The t-th number of a sparse row, spread, and where its classes begin."""
        x = self.spread(self.builder.load(self.builder.gep(data, [t])))
        column = self.builder.load(self.builder.gep(indices, [t]))
        column = self.builder.zext(column, self.size)
        return x, self.builder.add(self.builder.mul(column, width), offset)

    def loop(self, start: Any, stop: Any) -> tuple[Any, Any, Any, Any]:
        """Begin one: its counter, the blocks before, in and after it."""
        before = self.builder.block
        inside = self.builder.append_basic_block("loop")
        after = self.builder.append_basic_block("end")
        more = self.builder.icmp_signed("<", start, stop)
        self.builder.cbranch(more, inside, after)
        self.builder.position_at_end(inside)
        t = self.builder.phi(self.size)
        t.add_incoming(start, before)
        return t, before, inside, after

    def again(self, t: Any, stop: Any, inside: Any, after: Any) -> None:
        """End it."""
        following = self.builder.add(t, self.size(1))
        t.add_incoming(following, inside)
        more = self.builder.icmp_signed("<", following, stop)
        self.builder.cbranch(more, inside, after)
        self.builder.position_at_end(after)

    def multiplied(self, x: Any, y: Any) -> Any:
        """x y, which may be one instruction with the sum that it goes into."""
        return self.builder.fmul(x, y, flags=("contract",))


@_intrinsic
def _add(
    typing: Any,
    s: Any,
    data: Any,
    indices: Any,
    start: Any,
    stop: Any,
    V: Any,
    width: Any,
    offset: Any,
    vectors: Any,
) -> Any:
    """s += sum_t data[t] V[indices[t]] for some vectors of classes from offset on."""
    count = vectors.literal_value

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        c = _Code(context, builder, sig, args)
        sums, values, columns, matrix = (c.pointer(place) for place in (0, 1, 2, 5))
        start, stop, width, offset = args[3], args[4], args[6], args[7]
        places = [builder.add(offset, c.size(LANES * j)) for j in range(count)]
        first = [c.load(sums, place) for place in places]
        t, before, inside, after = c.loop(start, stop)
        carried = [builder.phi(value.type) for value in first]
        x, base = c.row(values, columns, t, width, offset)
        for j, phi in enumerate(carried):
            v = c.load(matrix, builder.add(base, c.size(LANES * j)))
            phi.add_incoming(first[j], before)
            product = c.multiplied(x, v)
            phi.add_incoming(builder.fadd(phi, product, flags=("contract",)), inside)
        nexts = [phi.incomings[1][0] for phi in carried]
        c.again(t, stop, inside, after)
        ends = [builder.phi(value.type) for value in first]
        for j, phi in enumerate(ends):
            phi.add_incoming(first[j], before)
            phi.add_incoming(nexts[j], inside)
        for place, phi in zip(places, ends, strict=True):
            c.store(phi, sums, place)
        return context.get_dummy_value()

    none, size = numba.types.none, numba.types.int64
    return none(s, data, indices, size, size, V, size, size, vectors), code


@_intrinsic
def _subtract(
    typing: Any,
    V: Any,
    width: Any,
    data: Any,
    indices: Any,
    start: Any,
    stop: Any,
    change: Any,
    offset: Any,
    vectors: Any,
) -> Any:
    """V[indices[t]] -= data[t] change for the classes from offset on."""
    count = vectors.literal_value

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        c = _Code(context, builder, sig, args)
        matrix, values, columns, changes = (c.pointer(place) for place in (0, 2, 3, 6))
        width, start, stop, offset = args[1], args[4], args[5], args[7]
        steps = [
            c.load(changes, builder.add(offset, c.size(LANES * j)))
            for j in range(count)
        ]
        t, _, inside, after = c.loop(start, stop)
        x, base = c.row(values, columns, t, width, offset)
        for j, step in enumerate(steps):
            place = builder.add(base, c.size(LANES * j))
            product = c.multiplied(x, step)
            v = c.load(matrix, place)
            c.store(builder.fsub(v, product, flags=("contract",)), matrix, place)
        c.again(t, stop, inside, after)
        return context.get_dummy_value()

    none, size = numba.types.none, numba.types.int64
    return none(V, size, data, indices, size, size, change, size, vectors), code


@_intrinsic
def above(typing: Any, s: Any, offset: Any, level: Any) -> Any:
    """Which of the LANES numbers from offset on are above a level, as bits."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        c = _Code(context, builder, sig, args)
        levels = c.spread(args[2])
        found = builder.fcmp_ordered(">", c.load(c.pointer(0), args[1]), levels)
        bits = builder.bitcast(found, c.ir.IntType(LANES))
        return builder.zext(bits, c.size)

    size = numba.types.int64
    return size(s, size, s.dtype), code


@compiled
def add_products(
    s: np.ndarray,
    data: np.ndarray,
    indices: np.ndarray,
    start: int,
    stop: int,
    V: np.ndarray,
) -> None:
    """s += sum_t data[t] V[indices[t]], of padded rows."""
    width, offset = V.shape[1], 0
    while offset + 64 <= width:
        _add(s, data, indices, start, stop, V, width, offset, 8)
        offset += 64
    if offset + 32 <= width:
        _add(s, data, indices, start, stop, V, width, offset, 4)
        offset += 32
    if offset + 16 <= width:
        _add(s, data, indices, start, stop, V, width, offset, 2)
        offset += 16
    if offset + 8 <= width:
        _add(s, data, indices, start, stop, V, width, offset, 1)


@compiled
def subtract_products(
    V: np.ndarray,
    data: np.ndarray,
    indices: np.ndarray,
    start: int,
    stop: int,
    change: np.ndarray,
) -> None:
    """V[indices[t]] -= data[t] change, of padded rows."""
    width, offset = V.shape[1], 0
    while offset + 64 <= width:
        _subtract(V, width, data, indices, start, stop, change, offset, 8)
        offset += 64
    if offset + 32 <= width:
        _subtract(V, width, data, indices, start, stop, change, offset, 4)
        offset += 32
    if offset + 16 <= width:
        _subtract(V, width, data, indices, start, stop, change, offset, 2)
        offset += 16
    if offset + 8 <= width:
        _subtract(V, width, data, indices, start, stop, change, offset, 1)
