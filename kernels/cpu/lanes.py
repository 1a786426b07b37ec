"""Sums over a block in eight float64 lanes, written for LLVM directly.

Numba may not reorder floating-point sums, so a plain loop stays scalar; with reordering allowed, the lanes would
depend on the processor. Here the lanes are part of the definition: element i adds to lane ``i % 8``, a block's
lanes start at zero and are then added to the state, and the same bits come out of 128-, 256- and 512-bit vectors.

The sum of e needs more than float64 where positive and negative errors cancel. It runs as an error-free
transformation: the running sum starts at an offset above every term, so ``d = (s + e) - s`` and ``e - d`` are exact.
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..codes import (
    FIELDS,
    LANES,
    MAX_ABS,
    SUM_ABS,
    SUM_CLIPPED_E2,
    SUM_CROSS,
    SUM_E2,
    SUM_E_HIGH,
    SUM_E_LOW,
    SUM_VALUE2,
    SUM_X2,
)

_INT, _WORD, _BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)
_DOUBLE, _SINGLE = ir.DoubleType(), ir.FloatType()
_DOUBLES = ir.VectorType(_DOUBLE, LANES)
_SINGLES = ir.VectorType(_SINGLE, LANES)
_WORDS = ir.VectorType(_WORD, LANES)
_LONGS = ir.VectorType(_INT, LANES)
#: Adding this to ``|v| < 2**51`` rounds v to an integer, ties to even, whose low bits are those of the sum.
_ROUNDER = 1.5 * 2.0**52
#: Memory is asked for this many bytes ahead, a long block of float32: whatever reads the next block first, finds it.
_AHEAD = 1 << 14
#: What a clamping loop carries beside the sums: largest |e| inside, smallest |e| and number of the clamped.
_INSIDE, _OUTSIDE, _CLIPPED = FIELDS, FIELDS + 1, FIELDS + 2


def _splat(builder, scalar):
    empty = ir.Constant(_DOUBLES, ir.Undefined)
    first = builder.insert_element(empty, scalar, _WORD(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_WORD, LANES), [0] * LANES))


def _unary(builder, name, value):
    kind = ir.FunctionType(_DOUBLES, [_DOUBLES])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f64"), [value])


def _fma(builder, a, b, c):
    kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64"), [a, b, c])


def _greater(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _less(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _pointer(builder, address, kind):
    return builder.inttoptr(address, kind.as_pointer())


def _prefetch(builder, address):
    pointer = _pointer(builder, address, _BYTE)
    kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _WORD, _WORD, _WORD])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, _WORD(0), _WORD(3), _WORD(1)])


class _Sums:
    """A loop over vectors that carries the lanes of every field."""

    def __init__(self, builder, vectors, state, clips):
        self.builder, self.state = builder, _pointer(builder, state, _DOUBLES)
        start = {field: ir.Constant(_DOUBLES, [0.0] * LANES) for field in range(FIELDS)}
        start[SUM_E_HIGH] = self._load(SUM_E_HIGH)
        if clips:
            start[_INSIDE] = start[MAX_ABS]
            start[_OUTSIDE] = ir.Constant(_DOUBLES, [math.inf] * LANES)
            start[_CLIPPED] = ir.Constant(_LONGS, [0] * LANES)
        entry = builder.block
        self.head, self.body = builder.append_basic_block("head"), builder.append_basic_block("body")
        self.exit = builder.append_basic_block("exit")
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.index = builder.phi(_INT)
        self.index.add_incoming(_INT(0), entry)
        self.now = {}
        for field, value in start.items():
            self.now[field] = builder.phi(value.type)
            self.now[field].add_incoming(value, entry)
        builder.cbranch(builder.icmp_signed("<", self.index, vectors), self.body, self.exit)
        builder.position_at_end(self.body)
        self.next = dict(self.now)

    def _load(self, field):
        return self.builder.load(self.builder.gep(self.state, [_INT(field)]), align=8)

    def add(self, x, value, clipped=None):
        """Add one vector of elements and of what their codes stand for; return e."""
        b, now, after = self.builder, self.now, self.next
        zero = ir.Constant(_DOUBLES, [0.0] * LANES)
        e = b.fsub(x, value)
        magnitude = _unary(b, "fabs", e)
        inside = e if clipped is None else b.select(clipped, zero, e)
        after[SUM_E2] = _fma(b, inside, inside, now[SUM_E2])
        if clipped is not None:
            outside = b.select(clipped, e, zero)
            after[SUM_CLIPPED_E2] = _fma(b, outside, outside, now[SUM_CLIPPED_E2])
            after[_INSIDE] = _greater(b, _unary(b, "fabs", inside), now[_INSIDE])
            farther = b.select(clipped, magnitude, ir.Constant(_DOUBLES, [math.inf] * LANES))
            after[_OUTSIDE] = _less(b, farther, now[_OUTSIDE])
            after[_CLIPPED] = b.sub(now[_CLIPPED], b.sext(clipped, _LONGS))
        after[SUM_ABS] = b.fadd(now[SUM_ABS], magnitude)
        after[MAX_ABS] = _greater(b, magnitude, now[MAX_ABS])
        total = b.fadd(now[SUM_E_HIGH], e)
        rest = b.fsub(e, b.fsub(total, now[SUM_E_HIGH]))
        after[SUM_E_HIGH] = total
        after[SUM_E_LOW] = b.fadd(now[SUM_E_LOW], rest)
        after[SUM_X2] = _fma(b, x, x, now[SUM_X2])
        after[SUM_VALUE2] = _fma(b, value, value, now[SUM_VALUE2])
        after[SUM_CROSS] = _fma(b, x, value, now[SUM_CROSS])
        return e

    def finish(self):
        """Close the loop; the builder then stands behind it."""
        b = self.builder
        last = b.block
        following = b.add(self.index, _INT(1))
        b.branch(self.head)
        self.index.add_incoming(following, last)
        for field, phi in self.now.items():
            phi.add_incoming(self.next[field], last)
        b.position_at_end(self.exit)

    def across(self, field, combine):
        """Combine the lanes of a field into one number."""
        b = self.builder
        total = b.extract_element(self.now[field], _WORD(0))
        for lane in range(1, LANES):
            total = combine(total, b.extract_element(self.now[field], _WORD(lane)))
        return total

    def store(self):
        """Add the block's lanes to the state."""
        b = self.builder
        for field in range(FIELDS):
            value = self.now[field]
            place = b.gep(self.state, [_INT(field)])
            if field == MAX_ABS:
                value = _greater(b, value, self._load(field))
            elif field != SUM_E_HIGH:
                value = b.fadd(self._load(field), value)
            b.store(value, place, align=8)


@intrinsic
def add_block(typing_context, x, value, code, n, state):
    """Add n elements, a multiple of 8, to the state: addresses of float64 x and values and of int32 codes."""

    def codegen(context, builder, signature, args):
        x, value, code, n, state = args
        xs, values = _pointer(builder, x, _DOUBLES), _pointer(builder, value, _DOUBLES)
        codes = _pointer(builder, code, _WORDS)
        sums = _Sums(builder, builder.sdiv(n, _INT(LANES)), state, True)
        code = builder.load(builder.gep(codes, [sums.index]), align=4)
        clipped = builder.icmp_signed("<", code, ir.Constant(_WORDS, [0] * LANES))
        load = [builder.load(builder.gep(p, [sums.index]), align=8) for p in (xs, values)]
        sums.add(load[0], load[1], clipped)
        sums.finish()
        sums.store()
        return context.get_dummy_value()

    return types.none(*[types.int64] * 5), codegen


#: Elements a step of `extremes`: two chains of 512-bit float32 vectors, to hide the latency of a minimum.
STRIDE = 32


@intrinsic
def extremes(typing_context, x, start, n):
    """Return (least, greatest) of n elements, a multiple of `STRIDE`; NaN is passed over."""
    single = x.dtype == types.float32

    def codegen(context, builder, signature, args):
        x, start, n = args
        scalar, size = (_SINGLE, 4) if single else (_DOUBLE, 8)
        kind = ir.VectorType(scalar, STRIDE)
        data = context.make_array(signature.args[0])(context, builder, x).data
        first = builder.add(builder.ptrtoint(data, _INT), builder.mul(start, _INT(size)))
        xs = _pointer(builder, first, kind)
        best = [cgutils.alloca_once(builder, kind) for _ in range(2)]
        for local, worst in zip(best, (math.inf, -math.inf), strict=True):
            builder.store(ir.Constant(kind, [worst] * STRIDE), local)
        with cgutils.for_range(builder, builder.sdiv(n, _INT(STRIDE))) as loop:
            value = builder.load(builder.gep(xs, [loop.index]), align=size)
            builder.store(_less(builder, value, builder.load(best[0])), best[0])
            builder.store(_greater(builder, value, builder.load(best[1])), best[1])
        found = []
        for local, combine in zip(best, (_less, _greater), strict=True):
            vector, width = builder.load(local), STRIDE
            while width > 1:
                width //= 2
                halves = [
                    builder.shuffle_vector(
                        vector, vector, ir.Constant(ir.VectorType(_WORD, width), list(range(from_, from_ + width)))
                    )
                    for from_ in (0, width)
                ]
                vector = combine(builder, *halves)
            number = builder.extract_element(vector, _WORD(0))
            found.append(builder.fpext(number, _DOUBLE) if single else number)
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.float64, 2)(x, types.int64, types.int64), codegen


def _nearest(single_value, keep, clips):
    """Build `add_nearest` for float32 or float64 values, with or without keeping codes and errors, or clamping.

    Arithmetic of the loop, ranges: ``|x / s + z| < 2**31`` where nothing is clamped; beyond, the clamp takes over
    before the bits of the sum are read.
    """

    @intrinsic
    def add_nearest(typing_context, x, start, n, state, scale, zero_point, qmin, qmax, limits, code, error):
        single_input = x.dtype == types.float32

        def codegen(context, builder, signature, args):
            x, start, n, state, scale, zero_point, qmin, qmax, limits, code, error = args
            rounder = builder.fadd(_DOUBLE(_ROUNDER), zero_point)
            low = _splat(builder, builder.fadd(_DOUBLE(_ROUNDER), qmin))
            high = _splat(builder, builder.fadd(_DOUBLE(_ROUNDER), qmax))
            inverse, step = _splat(builder, builder.fdiv(_DOUBLE(1.0), scale)), _splat(builder, scale)
            rounder = _splat(builder, rounder)
            lowest = builder.bitcast(low, _LONGS)
            size = 4 if single_input else 8
            data = context.make_array(signature.args[0])(context, builder, x).data
            first = builder.add(builder.ptrtoint(data, _INT), builder.mul(start, _INT(size)))
            xs = _pointer(builder, first, _SINGLES if single_input else _DOUBLES)
            codes, errors = _pointer(builder, code, _WORDS), _pointer(builder, error, _DOUBLES)
            sums = _Sums(builder, builder.sdiv(n, _INT(LANES)), state, clips)
            value = builder.load(builder.gep(xs, [sums.index]), align=size)
            if single_input:
                value = builder.fpext(value, _DOUBLES)
            # Zero point and rounding in one: |x / s + z| < 2**51, and ties or near-ties exceed the limit below.
            free = _fma(builder, value, inverse, rounder)
            whole = _less(builder, _greater(builder, free, low), high) if clips else free
            stands_for = builder.fmul(builder.fsub(whole, rounder), step)
            if single_value:
                stands_for = builder.fpext(builder.fptrunc(stands_for, _SINGLES), _DOUBLES)
            clipped = builder.fcmp_unordered("!=", free, whole) if clips else None
            e = sums.add(value, stands_for, clipped)
            if keep:
                index = builder.trunc(builder.sub(builder.bitcast(whole, _LONGS), lowest), _WORDS)
                builder.store(index, builder.gep(codes, [sums.index]), align=4)
                builder.store(e, builder.gep(errors, [sums.index]), align=8)
            ahead = builder.add(builder.mul(sums.index, _INT(LANES * size)), _INT(_AHEAD))
            _prefetch(builder, builder.add(first, ahead))
            sums.finish()
            squares = sums.across(SUM_X2, builder.fadd)
            largest = sums.across(_INSIDE if clips else MAX_ABS, lambda a, b: _greater(builder, a, b))
            limit = builder.extract_value(limits, 0)
            certain = builder.and_(
                builder.fcmp_ordered("<=", largest, limit),
                builder.fcmp_ordered("==", builder.fsub(squares, squares), _DOUBLE(0.0)),
            )
            count = _INT(0)
            if clips:
                smallest = sums.across(_OUTSIDE, lambda a, b: _less(builder, a, b))
                certain = builder.and_(certain, builder.fcmp_ordered(">=", smallest, builder.extract_value(limits, 1)))
                count = sums.across(_CLIPPED, builder.add)
            with builder.if_then(certain):
                sums.store()
            return builder.select(certain, count, _INT(-1))

        floats = [types.float64] * 4
        limits = types.UniTuple(types.float64, 2)
        arguments = (x, types.int64, types.int64, types.int64, *floats, limits, types.int64, types.int64)
        return types.int64(*arguments), codegen

    return add_nearest


#: ``NEAREST[values are float32][keep codes and errors][clamp]``: quantize elements ``start .. start + n - 1`` of x
#: (n a multiple of 8) to the nearest codes and add them to the state. The answer is the number of clamped elements
#: (0 without clamping, which the caller must know to be needless), or -1 and an untouched state if one is so near a
#: tie that only the convention's own arithmetic decides (``limits``: largest |e| of an element inside, smallest of
#: a clamped one), or is not finite. Then the codes and errors kept mean nothing.
NEAREST = [[[_nearest(*(bool(flag) for flag in (a, b, c))) for c in range(2)] for b in range(2)] for a in range(2)]
