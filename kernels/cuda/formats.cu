// Number formats on arrays: blocks along the rows of (rows, length), each with its scale; casts with one scale; the way
// back from codes.
#include "affine.cuh"
#include "compiler.cuh"
#include "formats.cuh"
#include "units.cuh"

// Bits of magnitudes: their order as integers is that of the numbers. All bits of NaN and infinity stay above.
QE_DEVICE u32 magnitude_bits(f32 x) { return f32_bits(x) & 0x7fffffffu; }
QE_DEVICE u64 magnitude_bits(f64 x) { return f64_bits(x) & 0x7fffffffffffffffull; }
QE_DEVICE u32 shuffle_xor(u32 v, i32 mask) { return shuffle_xor_u32(v, mask); }
QE_DEVICE u64 shuffle_xor(u64 v, i32 mask) { return shuffle_xor_u64(v, mask); }
QE_DEVICE u64 bits_as_f64(u32 v) { return f64_bits(f32_to_f64(bits_f32(v))); }
QE_DEVICE u64 bits_as_f64(u64 v) { return v; }
QE_DEVICE bool finite_bits(u32 v) { return v < 0x7f800000u; }
QE_DEVICE bool finite_bits(u64 v) { return v < 0x7ff0000000000000ull; }
template <class X> struct Magnitude;
template <> struct Magnitude<f32> { typedef u32 Bits; };
template <> struct Magnitude<f64> { typedef u64 Bits; };

QE_DEVICE u32 byte_of(const Coded &c) { return (u32)(c.code < 0 ? -1 - c.code : c.code); }

// What is written: codes as bytes, with each block's scale as it is stored, and its code; or, with the sign that tells
// saturation, codes of 32 bits, and what they stand for.
struct Encoded {
    static constexpr bool PACKED = true;  // whether four elements are stored at once
    u8 *codes;
    f32 *scales;
    u8 *scale_codes;

    QE_DEVICE void element(u64 at, const Coded &c) const { codes[at] = (u8)byte_of(c); }
    QE_DEVICE void four(u64 at, const Coded *c) const {
        word(at, pack_low_bytes(byte_of(c[0]), byte_of(c[1]), byte_of(c[2]), byte_of(c[3])));
    }
    QE_DEVICE void word(u64 at, u32 four_codes) const { store_u32(codes + at, four_codes); }
    QE_DEVICE void scale(u64 block, const Coded &stored) const {
        scales[block] = f64_to_f32(stored.value);
        scale_codes[block] = (u8)stored.code;
    }
};
struct Reconstructed {
    static constexpr bool PACKED = false;
    i32 *codes;
    f64 *values;

    QE_DEVICE void element(u64 at, const Coded &c) const {
        codes[at] = c.code;
        values[at] = c.value;
    }
    QE_DEVICE void four(u64 at, const Coded *c) const {
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) element(at + k, c[k]);
    }
    QE_DEVICE void word(u64, u32) const {}
    QE_DEVICE void scale(u64, const Coded &) const {}
};

// Where a thread's next block stands: `step` blocks on, in rows of `blocks`.
struct Blocks {
    u64 rows, length, block, blocks;
    u64 step, row_step;  // the stride in blocks, modulo blocks and divided by them
};
QE_DEVICE void move_on(const Blocks &b, u64 &column, u64 &row) {
    column += b.step;
    row += b.row_step;
    if (column >= b.blocks) {
        column -= b.blocks;
        ++row;
    }
}

// ---- blocks of 4 * lanes elements, lanes a power of two up to 32: four elements a thread, one block a group of lanes.
// All threads of a warp stay in the loop as long as one of them has a block.
// HOT: the rule has no divisions.
template <bool HOT, class X, class Out>
QE_DEVICE void lane_blocks(const Blocks &b, const X *x, i32 lanes, i32 vectors, const FormatRule &rule,
                           f64 tensor_scale, const Out &out, u32 *flag) {
    u32 shift = 31 - (u32)leading_zeros_u32((u32)lanes);
    u64 thread = thread_number(), total = b.rows * b.blocks, number = thread >> shift;
    u64 first_of_warp = (thread - lane_index()) >> shift, stride = thread_count() >> shift;
    u64 column = number % b.blocks, row = number / b.blocks, lane = thread & (u64)(lanes - 1);
    bool odd = false;
    for (; first_of_warp < total; first_of_warp += stride) {
        u64 begin = row * b.length + column * b.block + 4 * lane, end = (row + 1) * b.length;
        u32 count = row >= b.rows || begin >= end ? 0 : end - begin < 4 ? (u32)(end - begin) : 4;
        X v[4] = {0, 0, 0, 0};
        if (vectors && count == 4) {
            FourOf<X> four = load_four(x + begin);
            v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
        } else {
            QE_UNROLL
            for (u32 k = 0; k < 4; ++k) {
                if (k < count) v[k] = x[begin + k];
            }
        }
        typename Magnitude<X>::Bits top = 0;
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) {
            typename Magnitude<X>::Bits bits = magnitude_bits(v[k]);
            top = bits > top ? bits : top;
        }
        for (i32 mask = lanes >> 1; mask > 0; mask >>= 1) {
            typename Magnitude<X>::Bits other = shuffle_xor(top, mask);
            top = other > top ? other : top;
        }
        odd = odd || !finite_bits(top);
        Coded stored = stored_scale(rule.kind, rule.emax, rule.threshold, bits_as_f64(top), tensor_scale);
        f64 scale = whole_scale(rule.kind, stored.value, tensor_scale);
        FormatScale s = format_scale(rule.kind, scale, sizeof(X) == 4);
        if (lane == 0 && count) out.scale(row * b.blocks + column, stored);
        bool packed = Out::PACKED && vectors && count == 4;
        if (HOT && packed) {
            Coded c[4];
            QE_UNROLL
            for (u32 k = 0; k < 4; ++k) c[k] = format_code_and_value(rule, widened(v[k]), s);
            out.four(begin, c);
        } else {
            // One after the other, in turns: beside the calls of divisions there are not enough registers for four.
            u32 word = 0;
            QE_NO_UNROLL
            for (u32 k = 0; k < 4; ++k) {
                Coded c = format_code_and_value(rule, widened(v[0]), s);
                X next[4] = {v[1], v[2], v[3], v[0]};
                QE_UNROLL
                for (u32 j = 0; j < 4; ++j) v[j] = next[j];
                word = word >> 8 | byte_of(c) << 24;
                if (!packed && k < count) out.element(begin + k, c);
            }
            if (packed) out.word(begin, word);
        }
        move_on(b, column, row);
    }
    if (odd) atomicOr(flag, 1u);
}

// ---- blocks of any size: a warp each, its elements read twice
template <class X, class Out>
QE_DEVICE void warp_blocks(
    const Blocks &b, const X *x, const FormatRule &rule, f64 tensor_scale, const Out &out, u32 *flag) {
    u64 total = b.rows * b.blocks, number = thread_number() / QE_WARP, stride = thread_count() / QE_WARP;
    u64 column = number % b.blocks, row = number / b.blocks;
    bool odd = false;
    for (; number < total; number += stride) {
        u64 begin = row * b.length + column * b.block, rest = b.length - column * b.block;
        u64 end = begin + (rest < b.block ? rest : b.block);
        typename Magnitude<X>::Bits top = 0;
        for (u64 i = begin + lane_index(); i < end; i += QE_WARP) {
            typename Magnitude<X>::Bits bits = magnitude_bits(x[i]);
            top = bits > top ? bits : top;
        }
        for (i32 mask = QE_WARP / 2; mask > 0; mask >>= 1) {
            typename Magnitude<X>::Bits other = shuffle_xor(top, mask);
            top = other > top ? other : top;
        }
        odd = odd || !finite_bits(top);
        Coded stored = stored_scale(rule.kind, rule.emax, rule.threshold, bits_as_f64(top), tensor_scale);
        FormatScale s = format_scale(
            rule.kind, whole_scale(rule.kind, stored.value, tensor_scale), sizeof(X) == 4);
        if (lane_index() == 0) out.scale(row * b.blocks + column, stored);
        QE_NO_UNROLL
        for (u64 i = begin + lane_index(); i < end; i += QE_WARP) {
            out.element(i, format_code_and_value(rule, widened(x[i]), s));
        }
        move_on(b, column, row);
    }
    if (odd) atomicOr(flag, 1u);
}

// A small float or fixed point with ties to even: said once more as constants, so that its loop has no choices left.
QE_DEVICE bool is_usual(const FormatRule &rule, i32 kind) { return rule.kind == kind && rule.even && !rule.codebook; }
QE_DEVICE FormatRule usual(FormatRule rule, i32 kind) {
    rule.kind = kind;
    rule.even = true;
    rule.codebook = 0;
    return rule;
}

template <class X, class Out>
QE_DEVICE void any_blocks(const Blocks &b, const X *x, i32 lanes, i32 vectors, const i64 *row, const f64 *numbers,
                          f64 tensor_scale, const Out &out, u32 *flag) {
    FormatRule rule = load_format(row, numbers);
    if (!lanes) {
        warp_blocks(b, x, rule, tensor_scale, out, flag);
    } else if (Out::PACKED && sizeof(X) == 4 && is_usual(rule, QE_SCALE_E8M0)) {
        lane_blocks<true>(b, x, lanes, vectors, usual(rule, QE_SCALE_E8M0), tensor_scale, out, flag);
    } else {
        lane_blocks<false>(b, x, lanes, vectors, rule, tensor_scale, out, flag);
    }
}

// `lanes` is 0 for blocks of other sizes.
QE_BLOCK_KERNEL(256, encode_blocks_f32)(
    u64 rows, u64 length, u64 block, u64 blocks, u64 step, u64 row_step, const f32 *x, i32 lanes, i32 vectors,
    const i64 *row, const f64 *numbers, f64 tensor_scale, u8 *codes, f32 *scales, u8 *scale_codes, u32 *flag) {
    any_blocks(Blocks{rows, length, block, blocks, step, row_step}, x, lanes, vectors, row, numbers, tensor_scale,
               Encoded{codes, scales, scale_codes}, flag);
}
QE_BLOCK_KERNEL(256, encode_blocks_f64)(
    u64 rows, u64 length, u64 block, u64 blocks, u64 step, u64 row_step, const f64 *x, i32 lanes, i32 vectors,
    const i64 *row, const f64 *numbers, f64 tensor_scale, u8 *codes, f32 *scales, u8 *scale_codes, u32 *flag) {
    any_blocks(Blocks{rows, length, block, blocks, step, row_step}, x, lanes, vectors, row, numbers, tensor_scale,
               Encoded{codes, scales, scale_codes}, flag);
}
QE_BLOCK_KERNEL(256, reconstruct_blocks_f32)(
    u64 rows, u64 length, u64 block, u64 blocks, u64 step, u64 row_step, const f32 *x, i32 lanes, i32 vectors,
    const i64 *row, const f64 *numbers, f64 tensor_scale, i32 *codes, f64 *values, u32 *flag) {
    any_blocks(Blocks{rows, length, block, blocks, step, row_step}, x, lanes, vectors, row, numbers, tensor_scale,
               Reconstructed{codes, values}, flag);
}
QE_BLOCK_KERNEL(256, reconstruct_blocks_f64)(
    u64 rows, u64 length, u64 block, u64 blocks, u64 step, u64 row_step, const f64 *x, i32 lanes, i32 vectors,
    const i64 *row, const f64 *numbers, f64 tensor_scale, i32 *codes, f64 *values, u32 *flag) {
    any_blocks(Blocks{rows, length, block, blocks, step, row_step}, x, lanes, vectors, row, numbers, tensor_scale,
               Reconstructed{codes, values}, flag);
}

// ---- casts with one scale
template <class X, class Out>
QE_DEVICE void cast_all(u64 n, const X *x, i32 vectors, const FormatRule &rule, const FormatScale &s, const Out &out,
                        u32 *flag) {
    u64 stride = thread_count(), units = vectors ? n / 4 : 0;
    bool odd = false;
    QE_NO_UNROLL
    for (u64 u = thread_number(); u < units; u += stride) {
        FourOf<X> v = load_four(x + 4 * u);
        odd = odd || !(finite_bits(magnitude_bits(v.x)) && finite_bits(magnitude_bits(v.y)) &&
                       finite_bits(magnitude_bits(v.z)) && finite_bits(magnitude_bits(v.w)));
        Coded c[4] = {format_code_and_value(rule, widened(v.x), s), format_code_and_value(rule, widened(v.y), s),
                      format_code_and_value(rule, widened(v.z), s), format_code_and_value(rule, widened(v.w), s)};
        out.four(4 * u, c);
    }
    QE_NO_UNROLL
    for (u64 i = 4 * units + thread_number(); i < n; i += stride) {
        odd = odd || !finite_bits(magnitude_bits(x[i]));
        out.element(i, format_code_and_value(rule, widened(x[i]), s));
    }
    if (odd) atomicOr(flag, 1u);
}

template <class X, class Out>
QE_DEVICE void cast(u64 n, const X *x, i32 vectors, const i64 *row, const f64 *numbers, f64 scale, const Out &out,
                    u32 *flag) {
    FormatRule rule = load_format(row, numbers);
    FormatScale s = format_scale(QE_SCALE_TENSOR, scale, sizeof(X) == 4);
    if (s.exact && is_usual(rule, QE_SCALE_TENSOR)) {
        s.exact = true;  // a constant too
        cast_all(n, x, vectors, usual(rule, QE_SCALE_TENSOR), s, out, flag);
    } else {
        cast_all(n, x, vectors, rule, s, out, flag);
    }
}

QE_KERNEL(256, encode_f32)(
    u64 n, const f32 *x, i32 vectors, const i64 *row, const f64 *numbers, f64 scale, u8 *codes, u32 *flag) {
    cast(n, x, vectors, row, numbers, scale, Encoded{codes, nullptr, nullptr}, flag);
}
QE_KERNEL(256, encode_f64)(
    u64 n, const f64 *x, i32 vectors, const i64 *row, const f64 *numbers, f64 scale, u8 *codes, u32 *flag) {
    cast(n, x, vectors, row, numbers, scale, Encoded{codes, nullptr, nullptr}, flag);
}
QE_KERNEL(256, reconstruct_f32)(
    u64 n, const f32 *x, i32 vectors, const i64 *row, const f64 *numbers, f64 scale, i32 *codes, f64 *values,
    u32 *flag) {
    cast(n, x, vectors, row, numbers, scale, Reconstructed{codes, values}, flag);
}
QE_KERNEL(256, reconstruct_f64)(
    u64 n, const f64 *x, i32 vectors, const i64 *row, const f64 *numbers, f64 scale, i32 *codes, f64 *values,
    u32 *flag) {
    cast(n, x, vectors, row, numbers, scale, Reconstructed{codes, values}, flag);
}

// ---- E8M0 codes of positive numbers: exponents rounded by a deterministic rule, a tie being 3/2 of a power of two.
// `first`, n or above at the start, becomes the least index of what is not positive and finite.
template <class X> QE_DEVICE void exponents(u64 n, const X *x, i32 rounding, u8 *codes, u64 *first) {
    u64 found = n;
    for (u64 i = thread_number(); i < n; i += thread_count()) {
        u64 bits = f64_bits(widened(x[i])), fraction = bits & QE_F64_FRACTION, half = 1ull << 51;
        if ((bits >> 63 || bits == 0 || !finite_f64(bits_f64(bits))) && found == n) found = i;
        i32 code = (i32)(bits >> 52 & 0x7ff) - QE_F64_BIAS + QE_E8M0_LIMIT;  // a subnormal's lies below every code
        bool up = false;
        switch (rounding) {
        case QE_HALF_EVEN: up = fraction > half || (fraction == half && (code & 1)); break;
        case QE_HALF_AWAY:
        case QE_HALF_UP: up = fraction >= half; break;
        case QE_HALF_DOWN:
        case QE_HALF_TOWARD_ZERO: up = fraction > half; break;
        case QE_ROUND_CEIL: up = fraction > 0; break;
        default: break;
        }
        codes[i] = (u8)clamp_i32(code + (up ? 1 : 0), 0, 2 * QE_E8M0_LIMIT);
    }
    if (found < n) atomicMin(first, found);
}
QE_KERNEL(256, exponents_f32)(u64 n, const f32 *x, i32 rounding, u8 *codes, u64 *first) {
    exponents(n, x, rounding, codes, first);
}
QE_KERNEL(256, exponents_f64)(u64 n, const f64 *x, i32 rounding, u8 *codes, u64 *first) {
    exponents(n, x, rounding, codes, first);
}

// ---- the way back
// Values of codes of bytes, by a table.
QE_KERNEL(256, decode_codes)(u64 n, const u8 *codes, i32 vectors, const f32 *table, f32 *out) {
    u64 stride = thread_count(), units = vectors ? n / 4 : 0;
    for (u64 u = thread_number(); u < units; u += stride) {
        u32 v = load_u32(codes + 4 * u);
        store_u32x4(out + 4 * u, {f32_bits(table[v & 255]), f32_bits(table[v >> 8 & 255]),
                                  f32_bits(table[v >> 16 & 255]), f32_bits(table[v >> 24])});
    }
    for (u64 i = 4 * units + thread_number(); i < n; i += stride) out[i] = table[codes[i]];
}

// element * (scale * tensor_scale) in rows of `length`, blocks of `block`: float32 products, or exact ones (float64).
// at / block is at * magic >> shift, shift 0 a division. `first`, n or above at the start, becomes the least index of an
// infinite product of finite numbers.
struct Decoded {
    u64 rows, length, block, blocks, step, row_step;
    u32 magic;
    i32 shift;
};
QE_DEVICE void put(f32 *out, f64 product) { *out = f64_to_f32(product); }
QE_DEVICE void put(f64 *out, f64 product) { *out = product; }
template <class Y>
QE_DEVICE void decode_rows(const Decoded &d, const u8 *codes, const f32 *table, const f32 *scales, f32 tensor_scale,
                           i32 exact, Y *out, u64 *first) {
    u64 n = d.rows * d.length, found = n, i = thread_number(), stride = thread_count();
    u64 at = i % d.length, row = i / d.length;
    for (; i < n; i += stride) {
        u64 block = d.shift ? mul_wide_u32((u32)at, d.magic) >> d.shift : at / d.block;
        f32 element = table[codes[i]], scale = mul_rn_f32(scales[row * d.blocks + block], tensor_scale);
        f64 wide = mul_rn_f64(f32_to_f64(element), f32_to_f64(scale));
        f64 product = exact ? wide : f32_to_f64(mul_rn_f32(element, scale));
        if (finite_f32(element) && !finite_f64(product) && found == n) found = i;
        put(out + i, product);
        at += d.step;
        row += d.row_step;
        if (at >= d.length) {
            at -= d.length;
            ++row;
        }
    }
    if (found < n) atomicMin(first, found);
}
QE_KERNEL(256, decode_blocks_f32)(
    u64 rows, u64 length, u64 block, u64 blocks, u64 step, u64 row_step, u32 magic, i32 shift, const u8 *codes,
    const f32 *table, const f32 *scales, f32 tensor_scale, f32 *out, u64 *first) {
    decode_rows({rows, length, block, blocks, step, row_step, magic, shift}, codes, table, scales, tensor_scale, 0, out,
                first);
}
QE_KERNEL(256, decode_blocks_f64)(
    u64 rows, u64 length, u64 block, u64 blocks, u64 step, u64 row_step, u32 magic, i32 shift, const u8 *codes,
    const f32 *table, const f32 *scales, f32 tensor_scale, i32 exact, f64 *out, u64 *first) {
    decode_rows({rows, length, block, blocks, step, row_step, magic, shift}, codes, table, scales, tensor_scale, exact,
                out, first);
}
