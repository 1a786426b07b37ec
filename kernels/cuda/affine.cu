// Quantization and dequantization of flat arrays, and the check of codes.
//
// The unit is four elements in a row, as in units.cuh. Element i of a tensor has the parameters that its layout says
// (codes.py, `Quantizer`): one record for all, one a column, or one for each run of elements. The host writes the
// records (affine.py) and chooses the rule: fast ones where its proofs hold, else the general one.
#include "affine.cuh"
#include "compiler.cuh"
#include "units.cuh"

// What the host says of a quantization, the same for all elements.
struct Quantized {
    i32 bits, step, mode, rounding;  // codes of affine.cuh; mode is where the zero point enters
    i32 qmin, qmax;
};

// A record is 32 bytes; what they mean is the rule's.
struct Record {
    i32x4 a, b;
};
QE_DEVICE Record load_record(const i32 *table, u64 at) {
    return {cached_i32x4(table + 8 * at), cached_i32x4(table + 8 * at + 4)};
}
QE_DEVICE f32 real(i32 word) { return bits_f32((u32)word); }
QE_DEVICE f64 real(i32 low, i32 high) { return bits_f64((u64)(u32)high << 32 | (u32)low); }

// 0 * x is NaN where x is infinite or NaN, and the sum keeps it.
QE_DEVICE f32 watched(f32 odd, f32 x) { return fma_rn_f32(x, 0.0f, odd); }
QE_DEVICE f64 watched(f64 odd, f64 x) { return fma_rn_f64(x, 0.0, odd); }
QE_DEVICE bool is_odd(f32 odd) { return !eq_f32(odd, odd); }
QE_DEVICE bool is_odd(f64 odd) { return !eq_f64(odd, odd); }

// ---- fast rules: float32 elements, zero points and codes up to 2**19
//
// The element is clamped first, to the float32 numbers next to (qmin - z) s and (qmax - z) s: they lie within 1/4 of
// these codes, so that rounding to nearest gives qmin and qmax there, and being monotone it gives what a clamp behind it
// does. Then |v| <= 2**20 + 1/4, nothing overflows, and NaN becomes a number. `zero_point` is what is added before the
// rounding and `rest` what is added behind it, less the bits of QE_WHOLE_F32: adding that rounds v to an integer, ties
// to even, which stands in the low bits of the sum.
#define QE_WHOLE_F32 12582912.0f  // 3 * 2**22; its bits are 0x4b400000
#define QE_WHOLE_F64 0x1.8p52
struct Single {
    f32 low, high, negative_scale, inverse, zero_point;
    i32 rest;
};
QE_DEVICE Single load_single(const Record &r) {
    return {real(r.a.x), real(r.a.y), real(r.a.z), real(r.a.w), real(r.b.x), r.b.y};
}
QE_DEVICE f32 clamped(const Single &s, f32 x) { return min_f32(max_f32(x, s.low), s.high); }
QE_DEVICE i32 whole_bits(f32 v, i32 rest) { return add_wrap_i32((i32)f32_bits(add_rn_f32(v, QE_WHOLE_F32)), rest); }

// x / scale rounded once (affine.cuh, divided_by_inverse), where 2**-70 <= scale <= 2**100 and |x / scale| < 2**21:
// remainders are exact for quotients of 2**-30 and more, and smaller ones round to 0, with a zero point too.
QE_DEVICE f32 divided_f32(const Single &s, f32 x) {
    f32 q = mul_rn_f32(x, s.inverse);
    q = fma_rn_f32(fma_rn_f32(q, s.negative_scale, x), s.inverse, q);
    return fma_rn_f32(fma_rn_f32(q, s.negative_scale, x), s.inverse, q);
}

// rint(f32(x inverse + z)): a multiplication with z after it is this with 0.
struct FusedRule {
    static constexpr bool HOT = true;
    typedef f32 X;
    typedef Single Numbers;
    static QE_DEVICE Single load(const Record &r) { return load_single(r); }
    static QE_DEVICE i32 code(const Single &s, const Quantized &, f32 x, u32) {
        return whole_bits(fma_rn_f32(clamped(s, x), s.inverse, s.zero_point), s.rest);
    }
};
// rint(f32(f32(x / scale) + z)): the sum with 0 is exact.
struct DivideRule {
    static constexpr bool HOT = true;
    typedef f32 X;
    typedef Single Numbers;
    static QE_DEVICE Single load(const Record &r) { return load_single(r); }
    static QE_DEVICE i32 code(const Single &s, const Quantized &, f32 x, u32) {
        return whole_bits(add_rn_f32(divided_f32(s, clamped(s, x)), s.zero_point), s.rest);
    }
};
// rint(f64(f64(x / scale) + z)), 2**-120 <= scale <= 2**120.
struct DoubleRule {
    static constexpr bool HOT = true;
    typedef f32 X;
    struct Numbers {
        f64 scale, inverse, zero_point;
        f32 low, high;
        i32 rest;
    };
    static QE_DEVICE Numbers load(const Record &r) {
        return {real(r.a.x, r.a.y), real(r.a.z, r.a.w), f32_to_f64(real(r.b.z)), real(r.b.x), real(r.b.y), r.b.w};
    }
    static QE_DEVICE i32 code(const Numbers &n, const Quantized &, f32 x, u32) {
        f64 wide = f32_to_f64(min_f32(max_f32(x, n.low), n.high));
        f64 v = add_rn_f64(divided_by_inverse(wide, n.scale, n.inverse), n.zero_point);
        return add_wrap_i32((i32)(u32)f64_bits(add_rn_f64(v, QE_WHOLE_F64)), n.rest);
    }
};

// A whole float32 by any deterministic rule; |v| <= 2**21. As round_real in affine.cuh, whose remarks hold here.
QE_DEVICE f32 round_f32(f32 v, i32 rounding) {
    f32 whole;
    switch (rounding) {
    case QE_HALF_EVEN: return rint_f32(v);
    case QE_ROUND_FLOOR: return floor_f32(v);
    case QE_ROUND_CEIL: return ceil_f32(v);
    case QE_ROUND_TRUNC: return trunc_f32(v);
    case QE_HALF_AWAY:
        whole = trunc_f32(v);
        return le_f32(0.5f, abs_f32(sub_rn_f32(v, whole))) ? add_rn_f32(whole, copysign_f32(1.0f, v)) : whole;
    case QE_HALF_TOWARD_ZERO:
        whole = trunc_f32(v);
        return lt_f32(0.5f, abs_f32(sub_rn_f32(v, whole))) ? add_rn_f32(whole, copysign_f32(1.0f, v)) : whole;
    case QE_HALF_DOWN:
        whole = ceil_f32(v);
        return le_f32(0.5f, sub_rn_f32(whole, v)) ? sub_rn_f32(whole, 1.0f) : whole;
    default:
        whole = floor_f32(v);
        return le_f32(0.5f, sub_rn_f32(v, whole)) ? add_rn_f32(whole, 1.0f) : whole;
    }
}
// The float32 rules with any rounding: the bounds of x lie a code further out, and the code is clamped.
struct RoundedRule {
    static constexpr bool HOT = false;
    typedef f32 X;
    typedef Single Numbers;
    static QE_DEVICE Single load(const Record &r) { return load_single(r); }
    static QE_DEVICE i32 code(const Single &s, const Quantized &q, f32 x, u32) {
        f32 a = clamped(s, x);
        f32 v = q.step == QE_DIVIDE && q.mode != QE_ZERO_POINT_FUSED
                    ? add_rn_f32(divided_f32(s, a), s.zero_point)
                    : fma_rn_f32(a, s.inverse, s.zero_point);
        return clamp_i32(whole_bits(round_f32(v, q.rounding), s.rest), q.qmin, q.qmax);
    }
};

// ---- any convention, any parameters; `word` is the draw of stochastic rounding
template <class T> struct AnyRule {
    static constexpr bool HOT = false;
    typedef T X;
    typedef AffineParameters Numbers;
    static QE_DEVICE AffineParameters load(const Record &r) {
        return {real(r.a.x, r.a.y), real(r.a.z, r.a.w), real(r.b.x, r.b.y), r.b.z != 0};
    }
    static QE_DEVICE i32 code(const AffineParameters &p, const Quantized &q, T x, u32 word) {
        f64 qmin = i32_to_f64(q.qmin), qmax = i32_to_f64(q.qmax);
        IntegerRule rule = {q.bits, q.step, q.mode, q.rounding, QE_DEQUANTIZE_FLOAT64, qmin, qmax, 0};
        return f64_to_i32_rz(min_f64(max_f64(whole_code(rule, widened(x), p, word), qmin), qmax));
    }
};

// ---- loops over the three layouts. A job loads a unit and finishes it with the numbers of its four elements.

// One record for all: four units of a thread in flight.
template <class Job>
QE_DEVICE void tensor_loop(
    const Job &job, u64 n, i32 vectors, const typename Job::Numbers &c, typename Job::State &state) {
    u64 units = vectors ? n / 4 : 0, stride = thread_count(), u = thread_number();
    for (; Job::HOT && u + 3 * stride < units; u += 4 * stride) {
        typename Job::Unit v[4];
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) v[k] = job.read(4 * (u + k * stride));
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) job.write(4 * (u + k * stride), v[k], c, c, c, c, state);
    }
    QE_NO_UNROLL
    for (; u < units; u += stride) job.write(4 * u, job.read(4 * u), c, c, c, c, state);
    QE_NO_UNROLL
    for (u64 i = 4 * units + thread_number(); i < n; i += stride) job.one(i, c, state);
}

// A record a column, elements in rows of `columns`; element 0 stands in column `start`.
struct Columns {
    u64 columns, start;
    u64 stride;   // units; threads from this number on rest
    u64 advance;  // columns by which the first element moves on: 4 * stride modulo columns
};

template <class Job>
QE_DEVICE void column_loop(
    const Job &job, u64 n, const i32 *table, const Columns &p, typename Job::State &state) {
    u64 u = thread_number(), units = n / 4, rest = 4 * units + u;
    if (rest < n) job.one(rest, Job::load(table, (p.start + rest) % p.columns), state);
    if (u >= p.stride) return;
    u64 column = (p.start + 4 * u) % p.columns;
    typename Job::Numbers c[4] = {};
    do {
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) {
            u64 at = column + k;
            c[k] = Job::load(table, at < p.columns ? at : at % p.columns);
        }
        if (p.advance == 0) break;
        if (u < units) job.write(4 * u, job.read(4 * u), c[0], c[1], c[2], c[3], state);
        column += p.advance;
        if (column >= p.columns) column -= p.columns;
        u += p.stride;
    } while (u < units);
    for (; Job::HOT && u + p.stride < units; u += 2 * p.stride) {
        typename Job::Unit v = job.read(4 * u), w = job.read(4 * (u + p.stride));
        job.write(4 * u, v, c[0], c[1], c[2], c[3], state);
        job.write(4 * (u + p.stride), w, c[0], c[1], c[2], c[3], state);
    }
    QE_NO_UNROLL
    for (; u < units; u += p.stride) job.write(4 * u, job.read(4 * u), c[0], c[1], c[2], c[3], state);
}

// A record a run: rows of `length` elements, in runs of `group` (the last of a row may be shorter), `groups` a row, and
// records for `rows` rows, then again from the first. Where a thread stands is carried along.
struct Runs {
    u64 length, group, groups, rows;
    u64 start;     // element 0 stands this far behind the beginning of row 0
    u64 step;      // how far the place in a row moves on with the stride, and
    u64 row_step;  // how many rows: the stride divided by length, modulo rows
    u32 magic;     // x / group = x * magic >> shift for x < 2**31; shift 0: a division
    i32 shift;
};
struct Place {
    u64 at, row;
};

QE_DEVICE Place place_of(const Runs &p, u64 i) {
    u64 from = p.start + i;
    return {from % p.length, from / p.length % p.rows};
}
QE_DEVICE void move_on(const Runs &p, Place &place, u64 step, u64 row_step) {
    place.at += step;
    place.row += row_step;
    if (place.at >= p.length) {
        place.at -= p.length;
        ++place.row;
    }
    if (place.row >= p.rows) place.row -= p.rows;
}
QE_DEVICE u64 group_of(const Runs &p, u64 at) {
    if (p.groups == 1) return 0;
    return p.shift ? mul_wide_u32((u32)at, p.magic) >> p.shift : at / p.group;
}

// A unit, or its elements one by one where it ends a run or the array. `loaded` says whose numbers c are.
template <class Job>
QE_DEVICE void run_unit(const Job &job, u64 n, u64 i, i32 vectors, const i32 *table, const Runs &p, Place place,
                        u64 &loaded, typename Job::Numbers &c, typename Job::State &state) {
    u64 group = group_of(p, place.at), inside = place.at - group * p.group, record = place.row * p.groups + group;
    if (record != loaded) {
        c = Job::load(table, record);
        loaded = record;
    }
    if (vectors && inside + 4 <= p.group && place.at + 4 <= p.length && i + 4 <= n) {
        job.write(i, job.read(i), c, c, c, c, state);
        return;
    }
    QE_NO_UNROLL
    for (u32 k = 0;;) {
        job.one(i + k, c, state, k);
        if (++k == 4 || i + k >= n) break;
        bool ends = ++place.at == p.length;
        if (ends) {
            place.at = 0;
            if (++place.row == p.rows) place.row = 0;
        }
        if (++inside == p.group || ends) {
            inside = 0;
            loaded = place.row * p.groups + group_of(p, place.at);
            c = Job::load(table, loaded);
        }
    }
}

template <class Job>
QE_DEVICE void run_loop(
    const Job &job, u64 n, i32 vectors, const i32 *table, const Runs &p, typename Job::State &state) {
    u64 i = 4 * thread_number(), stride = 4 * thread_count(), loaded = ~0ull;
    Place place = place_of(p, i);
    typename Job::Numbers c = {};
    QE_NO_UNROLL
    for (; i < n; i += stride) {
        run_unit(job, n, i, vectors, table, p, place, loaded, c, state);
        move_on(p, place, p.step, p.row_step);
    }
}

// ---- quantization. OUT is a type of results (units.cuh), or -1: then `kind` says it.
template <class Rule, i32 OUT> struct Quantize {
    static constexpr bool HOT = Rule::HOT;
    typedef typename Rule::X X;
    typedef typename Rule::X State;  // NaN once an element was not finite
    typedef typename Rule::Numbers Numbers;
    typedef FourOf<X> Unit;

    const X *x;
    void *out;
    i32 kind;
    Quantized q;

    static QE_DEVICE Numbers load(const i32 *table, u64 at) { return Rule::load(load_record(table, at)); }
    QE_DEVICE Unit read(u64 first) const { return load_four(x + first); }
    QE_DEVICE void write(u64 first, const Unit &v, const Numbers &a, const Numbers &b, const Numbers &c,
                         const Numbers &d, State &odd) const {
        odd = watched(watched(watched(watched(odd, v.x), v.y), v.z), v.w);
        store_four<OUT>(out, kind, first, {Rule::code(a, q, v.x, 0), Rule::code(b, q, v.y, 0), Rule::code(c, q, v.z, 0),
                                           Rule::code(d, q, v.w, 0)});
    }
    QE_DEVICE void one(u64 at, const Numbers &c, State &odd, u32 = 0) const {
        odd = watched(odd, x[at]);
        store_one(out, kind, at, Rule::code(c, q, x[at], 0));
    }
};

template <class Rule>
QE_DEVICE void quantize_tensor(u64 n, const typename Rule::X *x, void *out, i32 kind, i32 vectors, const Record &record,
                               const Quantized &q, u32 *flag) {
    typename Rule::X odd = 0;
    if (Rule::HOT && kind == QE_OUT_BYTE) {
        tensor_loop(Quantize<Rule, QE_OUT_BYTE>{x, out, kind, q}, n, vectors, Rule::load(record), odd);
    } else {
        tensor_loop(Quantize<Rule, -1>{x, out, kind, q}, n, vectors, Rule::load(record), odd);
    }
    if (is_odd(odd)) atomicOr(flag, 1u);
}
template <class Rule>
QE_DEVICE void quantize_columns(u64 n, const typename Rule::X *x, void *out, i32 kind, const i32 *table,
                                const Columns &p, const Quantized &q, u32 *flag) {
    typename Rule::X odd = 0;
    if (Rule::HOT && kind == QE_OUT_BYTE) {
        column_loop(Quantize<Rule, QE_OUT_BYTE>{x, out, kind, q}, n, table, p, odd);
    } else {
        column_loop(Quantize<Rule, -1>{x, out, kind, q}, n, table, p, odd);
    }
    if (is_odd(odd)) atomicOr(flag, 1u);
}
template <class Rule>
QE_DEVICE void quantize_runs(u64 n, const typename Rule::X *x, void *out, i32 kind, i32 vectors, const i32 *table,
                             const Runs &p, const Quantized &q, u32 *flag) {
    typename Rule::X odd = 0;
    run_loop(Quantize<Rule, -1>{x, out, kind, q}, n, vectors, table, p, odd);
    if (is_odd(odd)) atomicOr(flag, 1u);
}

QE_KERNEL(256, quantize_fused_tensor)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, i32 a0, i32 a1, i32 a2, i32 a3, i32 b0, i32 b1, i32 b2,
    i32 b3, i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_tensor<FusedRule>(n, x, out, kind, vectors, {{a0, a1, a2, a3}, {b0, b1, b2, b3}},
                               {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_divide_tensor)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, i32 a0, i32 a1, i32 a2, i32 a3, i32 b0, i32 b1, i32 b2,
    i32 b3, i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_tensor<DivideRule>(n, x, out, kind, vectors, {{a0, a1, a2, a3}, {b0, b1, b2, b3}},
                                {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_double_tensor)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, i32 a0, i32 a1, i32 a2, i32 a3, i32 b0, i32 b1, i32 b2,
    i32 b3, i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_tensor<DoubleRule>(n, x, out, kind, vectors, {{a0, a1, a2, a3}, {b0, b1, b2, b3}},
                                {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_rounded_tensor)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, i32 a0, i32 a1, i32 a2, i32 a3, i32 b0, i32 b1, i32 b2,
    i32 b3, i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_tensor<RoundedRule>(n, x, out, kind, vectors, {{a0, a1, a2, a3}, {b0, b1, b2, b3}},
                                 {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_any_tensor_f32)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, i32 a0, i32 a1, i32 a2, i32 a3, i32 b0, i32 b1, i32 b2,
    i32 b3, i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_tensor<AnyRule<f32>>(n, x, out, kind, vectors, {{a0, a1, a2, a3}, {b0, b1, b2, b3}},
                                  {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_any_tensor_f64)(
    u64 n, const f64 *x, void *out, i32 kind, i32 vectors, i32 a0, i32 a1, i32 a2, i32 a3, i32 b0, i32 b1, i32 b2,
    i32 b3, i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_tensor<AnyRule<f64>>(n, x, out, kind, vectors, {{a0, a1, a2, a3}, {b0, b1, b2, b3}},
                                  {bits, step, mode, rounding, qmin, qmax}, flag);
}

QE_KERNEL(256, quantize_fused_columns)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, u64 columns, u64 start, u64 stride, u64 advance,
    i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_columns<FusedRule>(n, x, out, kind, table, {columns, start, stride, advance},
                                {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_divide_columns)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, u64 columns, u64 start, u64 stride, u64 advance,
    i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_columns<DivideRule>(n, x, out, kind, table, {columns, start, stride, advance},
                                 {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_double_columns)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, u64 columns, u64 start, u64 stride, u64 advance,
    i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_columns<DoubleRule>(n, x, out, kind, table, {columns, start, stride, advance},
                                 {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_rounded_columns)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, u64 columns, u64 start, u64 stride, u64 advance,
    i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_columns<RoundedRule>(n, x, out, kind, table, {columns, start, stride, advance},
                                  {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_any_columns_f32)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, u64 columns, u64 start, u64 stride, u64 advance,
    i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_columns<AnyRule<f32>>(n, x, out, kind, table, {columns, start, stride, advance},
                                   {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_any_columns_f64)(
    u64 n, const f64 *x, void *out, i32 kind, const i32 *table, u64 columns, u64 start, u64 stride, u64 advance,
    i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_columns<AnyRule<f64>>(n, x, out, kind, table, {columns, start, stride, advance},
                                   {bits, step, mode, rounding, qmin, qmax}, flag);
}

QE_KERNEL(256, quantize_fused_runs)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, u64 length, u64 group, u64 groups,
    u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift, i32 bits, i32 step, i32 mode, i32 rounding,
    i32 qmin, i32 qmax, u32 *flag) {
    quantize_runs<FusedRule>(n, x, out, kind, vectors, table,
                             {length, group, groups, rows, start, place_step, row_step, magic, shift},
                             {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_divide_runs)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, u64 length, u64 group, u64 groups,
    u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift, i32 bits, i32 step, i32 mode, i32 rounding,
    i32 qmin, i32 qmax, u32 *flag) {
    quantize_runs<DivideRule>(n, x, out, kind, vectors, table,
                              {length, group, groups, rows, start, place_step, row_step, magic, shift},
                              {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_double_runs)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, u64 length, u64 group, u64 groups,
    u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift, i32 bits, i32 step, i32 mode, i32 rounding,
    i32 qmin, i32 qmax, u32 *flag) {
    quantize_runs<DoubleRule>(n, x, out, kind, vectors, table,
                              {length, group, groups, rows, start, place_step, row_step, magic, shift},
                              {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_rounded_runs)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, u64 length, u64 group, u64 groups,
    u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift, i32 bits, i32 step, i32 mode, i32 rounding,
    i32 qmin, i32 qmax, u32 *flag) {
    quantize_runs<RoundedRule>(n, x, out, kind, vectors, table,
                               {length, group, groups, rows, start, place_step, row_step, magic, shift},
                               {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_any_runs_f32)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, u64 length, u64 group, u64 groups,
    u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift, i32 bits, i32 step, i32 mode, i32 rounding,
    i32 qmin, i32 qmax, u32 *flag) {
    quantize_runs<AnyRule<f32>>(n, x, out, kind, vectors, table,
                                {length, group, groups, rows, start, place_step, row_step, magic, shift},
                                {bits, step, mode, rounding, qmin, qmax}, flag);
}
QE_KERNEL(256, quantize_any_runs_f64)(
    u64 n, const f64 *x, void *out, i32 kind, i32 vectors, const i32 *table, u64 length, u64 group, u64 groups,
    u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift, i32 bits, i32 step, i32 mode, i32 rounding,
    i32 qmin, i32 qmax, u32 *flag) {
    quantize_runs<AnyRule<f64>>(n, x, out, kind, vectors, table,
                                {length, group, groups, rows, start, place_step, row_step, magic, shift},
                                {bits, step, mode, rounding, qmin, qmax}, flag);
}

// ---- stochastic rounding. A Philox block holds the draws of four elements that lie DRAW_GROUP / 4 apart: a thread takes
// four units that far apart, and four blocks. Any layout, as runs; element 0 begins a group of draws.
#define QE_QUARTER (QE_DRAW_GROUP / 4)
template <class T> struct Draw {
    typedef T X;
    typedef T State;
    typedef AffineParameters Numbers;
    typedef FourOf<T> Unit;

    const T *x;
    void *out;
    i32 kind;
    Quantized q;
    u32x4 words;

    static QE_DEVICE Numbers load(const i32 *table, u64 at) { return AnyRule<T>::load(load_record(table, at)); }
    QE_DEVICE Unit read(u64 first) const { return load_four(x + first); }
    QE_DEVICE void write(u64 first, const Unit &v, const Numbers &p, const Numbers &, const Numbers &, const Numbers &,
                         T &odd) const {
        // One after the other, in turns that bring all four back to their places: the four together need more registers
        // than there are beside the calls of a division.
        FourOf<T> rest = v;
        u32x4 draws = words;
        Four codes = {0, 0, 0, 0};
        QE_NO_UNROLL
        for (u32 k = 0; k < 4; ++k) {
            odd = watched(odd, rest.x);
            codes = {codes.y, codes.z, codes.w, AnyRule<T>::code(p, q, rest.x, draws.x)};
            rest = {rest.y, rest.z, rest.w, rest.x};
            draws = {draws.y, draws.z, draws.w, draws.x};
        }
        store_four<-1>(out, kind, first, codes);
    }
    QE_DEVICE void one(u64 at, const Numbers &c, T &odd, u32 k) const {
        odd = watched(odd, x[at]);
        u32 word = k < 2 ? (k == 0 ? words.x : words.y) : (k == 2 ? words.z : words.w);
        store_one(out, kind, at, AnyRule<T>::code(c, q, x[at], word));
    }
};


template <class T>
QE_DEVICE void quantize_draws(u64 n, u64 first_group, const T *x, void *out, i32 kind, i32 vectors, const i32 *table,
                              const Runs &p, u64 quarter_step, u64 quarter_row_step, const Quantized &q, u64 seed,
                              u32 *flag) {
    Draw<T> job = {x, out, kind, q, {0, 0, 0, 0}};
    // The stride is a multiple of 64 threads; p.step leads from behind one group of draws to the thread's next.
    u64 w = thread_number(), stride = thread_count(), loaded = ~0ull;
    Place place = place_of(p, w / (QE_QUARTER / 4) * QE_DRAW_GROUP + w % (QE_QUARTER / 4) * 4);
    AffineParameters c = {};
    T odd = 0;
    for (;; w += stride) {
        u64 group = w / (QE_QUARTER / 4), lane = w % (QE_QUARTER / 4) * 4, i = group * QE_DRAW_GROUP + lane;
        if (i >= n) break;
        u32x4 words[4];
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) {
            words[k] = philox_block((first_group + group) * QE_QUARTER + lane + k, (u32)seed, (u32)(seed >> 32));
        }
        QE_NO_UNROLL
        for (u32 quarter = 0; quarter < 4; ++quarter) {
            job.words = {words[0].x, words[1].x, words[2].x, words[3].x};
            if (i < n) run_unit(job, n, i, vectors, table, p, place, loaded, c, odd);
            i += QE_QUARTER;
            move_on(p, place, quarter_step, quarter_row_step);
            QE_UNROLL
            for (u32 k = 0; k < 4; ++k) words[k] = {words[k].y, words[k].z, words[k].w, 0};
        }
        move_on(p, place, p.step, p.row_step);
    }
    if (is_odd(odd)) atomicOr(flag, 1u);
}

QE_KERNEL(256, quantize_draws_f32)(
    u64 n, u64 first_group, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, u64 length, u64 group,
    u64 groups, u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift, u64 quarter_step,
    u64 quarter_row_step, u64 seed, i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_draws(n, first_group, x, out, kind, vectors, table,
                   {length, group, groups, rows, start, place_step, row_step, magic, shift}, quarter_step,
                   quarter_row_step, {bits, step, mode, rounding, qmin, qmax}, seed, flag);
}
QE_KERNEL(256, quantize_draws_f64)(
    u64 n, u64 first_group, const f64 *x, void *out, i32 kind, i32 vectors, const i32 *table, u64 length, u64 group,
    u64 groups, u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift, u64 quarter_step,
    u64 quarter_row_step, u64 seed, i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax, u32 *flag) {
    quantize_draws(n, first_group, x, out, kind, vectors, table,
                   {length, group, groups, rows, start, place_step, row_step, magic, shift}, quarter_step,
                   quarter_row_step, {bits, step, mode, rounding, qmin, qmax}, seed, flag);
}

// ---- dequantization. Codes are bytes, halves or words; with 2**7 (2**15) added, signed bytes (halves) are unsigned.
#define QE_DEQUANTIZE_WIDE 4  // as QE_DEQUANTIZE_SUBTRACT, where q - z may leave int32
struct Codes {
    const void *q;
    i32 kind, bias;

    QE_DEVICE u32x4 read(u64 first) const {
        if (kind == QE_OUT_BYTE) return {load_u32((const u8 *)q + first), 0, 0, 0};
        if (kind == QE_OUT_WORD) return load_u32x4((const u32 *)q + first);
        u32x2 v = load_u32x2((const u16 *)q + first);
        return {v.x, v.y, 0, 0};
    }
    QE_DEVICE Four unpacked(const u32x4 &v) const {
        if (kind == QE_OUT_WORD) return {(i32)v.x, (i32)v.y, (i32)v.z, (i32)v.w};
        if (kind == QE_OUT_BYTE) {
            u32 w = v.x ^ (u32)bias * 0x01010101u;
            return {(i32)byte_permute(w, 0, 0x4440) - bias, (i32)byte_permute(w, 0, 0x4441) - bias,
                    (i32)byte_permute(w, 0, 0x4442) - bias, (i32)byte_permute(w, 0, 0x4443) - bias};
        }
        u32 a = v.x ^ (u32)bias * 0x00010001u, b = v.y ^ (u32)bias * 0x00010001u;
        return {(i32)(a & 0xffff) - bias, (i32)(a >> 16) - bias, (i32)(b & 0xffff) - bias, (i32)(b >> 16) - bias};
    }
    QE_DEVICE i32 one(u64 at) const {
        if (kind == QE_OUT_WORD) return ((const i32 *)q)[at];
        if (kind == QE_OUT_BYTE) return (i32)(((const u8 *)q)[at] ^ (u32)bias) - bias;
        return (i32)(((const u16 *)q)[at] ^ (u32)bias) - bias;
    }
};

// float32 values. RULE is a code of affine.cuh or -1: then `rule` says it. Codes and zero points lie in int32.
template <i32 RULE> struct DequantizeSingle {
    static constexpr bool HOT = RULE >= 0;
    struct State {};
    struct Numbers {
        f32 scale, product;  // the product of zero point and scale, rounded
        i32 zero_point;
    };
    typedef u32x4 Unit;

    Codes codes;
    f32 *out;
    i32 rule;

    static QE_DEVICE Numbers load(const i32 *table, u64 at) {
        i32x4 r = cached_i32x4(table + 4 * at);
        return {real(r.x), real(r.y), r.z};
    }
    QE_DEVICE f32 value(const Numbers &n, i32 q) const {
        switch (RULE < 0 ? rule : RULE) {
        case QE_DEQUANTIZE_SUBTRACT: return mul_rn_f32(i32_to_f32(q - n.zero_point), n.scale);
        case QE_DEQUANTIZE_WIDE: return mul_rn_f32(i64_to_f32((i64)q - n.zero_point), n.scale);
        case QE_DEQUANTIZE_EXPANDED: return sub_rn_f32(mul_rn_f32(i32_to_f32(q), n.scale), n.product);
        default: return fma_rn_f32(i32_to_f32(q), n.scale, neg_f32(n.product));
        }
    }
    QE_DEVICE Unit read(u64 first) const { return codes.read(first); }
    QE_DEVICE void write(u64 first, const Unit &v, const Numbers &a, const Numbers &b, const Numbers &c,
                         const Numbers &d, State &) const {
        Four q = codes.unpacked(v);
        store_u32x4(out + first, {f32_bits(value(a, q.x)), f32_bits(value(b, q.y)), f32_bits(value(c, q.z)),
                                  f32_bits(value(d, q.w))});
    }
    QE_DEVICE void one(u64 at, const Numbers &c, State &, u32 = 0) const { out[at] = value(c, codes.one(at)); }
};

// f64((q - z) scale): both are float64 numbers, and so is their difference.
struct DequantizeDouble {
    static constexpr bool HOT = true;
    struct State {};
    struct Numbers {
        f64 scale, zero_point;
    };
    typedef u32x4 Unit;

    Codes codes;
    f64 *out;

    static QE_DEVICE Numbers load(const i32 *table, u64 at) {
        i32x4 r = cached_i32x4(table + 4 * at);
        return {real(r.x, r.y), real(r.z, r.w)};
    }
    static QE_DEVICE f64 value(const Numbers &n, i32 q) {
        return mul_rn_f64(sub_rn_f64(i32_to_f64(q), n.zero_point), n.scale);
    }
    QE_DEVICE Unit read(u64 first) const { return codes.read(first); }
    static QE_DEVICE void store_two(f64 *at, f64 a, f64 b) {
        u64 v = f64_bits(a), w = f64_bits(b);
        store_u32x4(at, {(u32)v, (u32)(v >> 32), (u32)w, (u32)(w >> 32)});
    }
    QE_DEVICE void write(u64 first, const Unit &v, const Numbers &a, const Numbers &b, const Numbers &c,
                         const Numbers &d, State &) const {
        Four q = codes.unpacked(v);
        store_two(out + first, value(a, q.x), value(b, q.y));
        store_two(out + first + 2, value(c, q.z), value(d, q.w));
    }
    QE_DEVICE void one(u64 at, const Numbers &c, State &, u32 = 0) const { out[at] = value(c, codes.one(at)); }
};

QE_KERNEL(256, dequantize_tensor_f32)(
    u64 n, const void *q, i32 kind, i32 bias, f32 *out, i32 vectors, f32 scale, f32 product, i32 zero_point, i32 rule) {
    if (kind == QE_OUT_BYTE && rule == QE_DEQUANTIZE_SUBTRACT) {
        DequantizeSingle<QE_DEQUANTIZE_SUBTRACT>::State none;
        DequantizeSingle<QE_DEQUANTIZE_SUBTRACT> job = {{q, QE_OUT_BYTE, bias}, out, rule};
        tensor_loop(job, n, vectors, {scale, product, zero_point}, none);
    } else {
        DequantizeSingle<-1>::State none;
        tensor_loop(DequantizeSingle<-1>{{q, kind, bias}, out, rule}, n, vectors, {scale, product, zero_point}, none);
    }
}
QE_KERNEL(256, dequantize_tensor_f64)(
    u64 n, const void *q, i32 kind, i32 bias, f64 *out, i32 vectors, f64 scale, f64 zero_point) {
    DequantizeDouble::State none;
    if (kind == QE_OUT_BYTE) {
        tensor_loop(DequantizeDouble{{q, QE_OUT_BYTE, bias}, out}, n, vectors, {scale, zero_point}, none);
    } else {
        tensor_loop(DequantizeDouble{{q, kind, bias}, out}, n, vectors, {scale, zero_point}, none);
    }
}
QE_KERNEL(256, dequantize_columns_f32)(
    u64 n, const void *q, i32 kind, i32 bias, f32 *out, const i32 *table, u64 columns, u64 start, u64 stride,
    u64 advance, i32 rule) {
    if (kind == QE_OUT_BYTE && rule == QE_DEQUANTIZE_SUBTRACT) {
        DequantizeSingle<QE_DEQUANTIZE_SUBTRACT>::State none;
        DequantizeSingle<QE_DEQUANTIZE_SUBTRACT> job = {{q, QE_OUT_BYTE, bias}, out, rule};
        column_loop(job, n, table, {columns, start, stride, advance}, none);
    } else {
        DequantizeSingle<-1>::State none;
        DequantizeSingle<-1> job = {{q, kind, bias}, out, rule};
        column_loop(job, n, table, {columns, start, stride, advance}, none);
    }
}
QE_KERNEL(256, dequantize_columns_f64)(
    u64 n, const void *q, i32 kind, i32 bias, f64 *out, const i32 *table, u64 columns, u64 start, u64 stride,
    u64 advance) {
    DequantizeDouble::State none;
    column_loop(DequantizeDouble{{q, kind, bias}, out}, n, table, {columns, start, stride, advance}, none);
}
QE_KERNEL(256, dequantize_runs_f32)(
    u64 n, const void *q, i32 kind, i32 bias, f32 *out, i32 vectors, const i32 *table, u64 length, u64 group,
    u64 groups, u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift, i32 rule) {
    DequantizeSingle<-1>::State none;
    run_loop(DequantizeSingle<-1>{{q, kind, bias}, out, rule}, n, vectors, table,
             {length, group, groups, rows, start, place_step, row_step, magic, shift}, none);
}
QE_KERNEL(256, dequantize_runs_f64)(
    u64 n, const void *q, i32 kind, i32 bias, f64 *out, i32 vectors, const i32 *table, u64 length, u64 group,
    u64 groups, u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift) {
    DequantizeDouble::State none;
    run_loop(DequantizeDouble{{q, kind, bias}, out}, n, vectors, table,
             {length, group, groups, rows, start, place_step, row_step, magic, shift}, none);
}

// ---- the least index of a code outside [low, high], in 16-byte units; `first` starts at n or above
template <class Q> QE_DEVICE bool is_outside(Q v, i64 low, i64 high) { return (i64)v < low || (i64)v > high; }
QE_DEVICE bool is_outside(u64 v, i64 low, i64 high) { return v >> 63 || (i64)v < low || (i64)v > high; }

template <class Q> QE_DEVICE void find_outside(u64 n, const Q *q, i32 vectors, i64 low, i64 high, u64 *first) {
    constexpr u32 V = 16 / sizeof(Q);
    u64 units = vectors ? n / V : 0, stride = thread_count(), found = n;
    for (u64 u = thread_number(); u < units && found == n; u += stride) {
        u32x4 v = load_u32x4(q + V * u);
        u64 half[2] = {(u64)v.y << 32 | v.x, (u64)v.w << 32 | v.z};
        QE_UNROLL
        for (u32 k = V; k-- > 0;) {
            if (is_outside((Q)(half[k / (V / 2)] >> (8 * sizeof(Q) * (k % (V / 2)))), low, high)) found = V * u + k;
        }
    }
    for (u64 i = V * units + thread_number(); i < n && found == n; i += stride) {
        if (is_outside(q[i], low, high)) found = i;
    }
    if (found < n) atomicMin(first, found);
}

// kind: the size of a code as a power of two, plus 4 where it is unsigned.
QE_KERNEL(256, codes_outside)(u64 n, const void *q, i32 kind, i32 vectors, i64 low, i64 high, u64 *first) {
    switch (kind) {
    case 0: find_outside(n, (const i8 *)q, vectors, low, high, first); break;
    case 1: find_outside(n, (const i16 *)q, vectors, low, high, first); break;
    case 2: find_outside(n, (const i32 *)q, vectors, low, high, first); break;
    case 3: find_outside(n, (const i64 *)q, vectors, low, high, first); break;
    case 4: find_outside(n, (const u8 *)q, vectors, low, high, first); break;
    case 5: find_outside(n, (const u16 *)q, vectors, low, high, first); break;
    case 6: find_outside(n, (const u32 *)q, vectors, low, high, first); break;
    default: find_outside(n, (const u64 *)q, vectors, low, high, first);
    }
}
