// Quantization of one real by any convention: scaled value, rounding, code, and what the code stands for. The rows and
// numbers are those of kernels/codes.py; kernels/reference/affine.py is the definition.
#pragma once
#include "compiler.cuh"
#include "philox.cuh"

QE_DEVICE f64 widened(f32 x) { return f32_to_f64(x); }
QE_DEVICE f64 widened(f64 x) { return x; }

// Positions in a quantizer's row of int64, and what stands there.
#define QE_AFFINE_FAMILY 0
#define QE_AFFINE_BITS 1
#define QE_AFFINE_STEP 2
#define QE_AFFINE_ZERO_POINT 3
#define QE_AFFINE_ROUNDING 4
#define QE_AFFINE_DEQUANTIZATION 5
#define QE_AFFINE_QMIN 6
#define QE_AFFINE_QMAX 7
#define QE_AFFINE_SEED 8
#define QE_AFFINE_FAST 9
#define QE_AFFINE_ROW 16
#define QE_INTEGER_FAMILY 0
#define QE_FORMAT_FAMILY 1
#define QE_DIVIDE 0
#define QE_RECIPROCAL 1
#define QE_ZERO_POINT_AFTER 0
#define QE_ZERO_POINT_INSIDE 1
#define QE_ZERO_POINT_FUSED 2
#define QE_DEQUANTIZE_FLOAT64 0
#define QE_DEQUANTIZE_SUBTRACT 1
#define QE_DEQUANTIZE_EXPANDED 2
#define QE_DEQUANTIZE_FUSED 3
#define QE_HALF_EVEN 0
#define QE_HALF_AWAY 1
#define QE_HALF_UP 2
#define QE_HALF_DOWN 3
#define QE_HALF_TOWARD_ZERO 4
#define QE_ROUND_FLOOR 5
#define QE_ROUND_CEIL 6
#define QE_ROUND_TRUNC 7
#define QE_STOCHASTIC 8
#define QE_DRAW_GROUP 1024

// The index of a code, q - qmin, or -1 - index where clamped; what the code stands for.
struct Coded {
    i32 code;
    f64 value;
};

struct IntegerRule {
    i32 bits, step, zero_point, rounding, dequantization;
    f64 qmin, qmax;  // whole, |q| < 2**31, qmax - qmin < 2**16
    u64 seed;
};

QE_DEVICE IntegerRule load_rule(const i64 *row) {
    return {(i32)row[QE_AFFINE_BITS], (i32)row[QE_AFFINE_STEP], (i32)row[QE_AFFINE_ZERO_POINT],
            (i32)row[QE_AFFINE_ROUNDING], (i32)row[QE_AFFINE_DEQUANTIZATION], i64_to_f64(row[QE_AFFINE_QMIN]),
            i64_to_f64(row[QE_AFFINE_QMAX]), (u64)row[QE_AFFINE_SEED]};
}

// Which parameters element i has, by (length, group, groups a row, rows). Four divisions of 64 bits: loops over arrays
// carry their place along instead.
QE_DEVICE u64 parameter_index(u64 i, const i64 *layout) {
    u64 length = (u64)layout[0], group = (u64)layout[1], groups = (u64)layout[2], rows = (u64)layout[3];
    return i / length % rows * groups + i % length / group;
}

// The word that stochastic rounding compares element i's fraction with.
QE_DEVICE u32 draw_word(u64 seed, u64 i) {
    u32 quarter = QE_DRAW_GROUP / 4, r = (u32)(i % QE_DRAW_GROUP);
    u64 block = i / QE_DRAW_GROUP * quarter + r % quarter;
    u32x4 words = philox_block(block, (u32)seed, (u32)(seed >> 32));
    u32 place = r / quarter;
    return place < 2 ? (place == 0 ? words.x : words.y) : (place == 2 ? words.z : words.w);
}

// Scale and zero point as the arithmetic uses them. The inverse is rounded to its type; `exact` says that
// divided_by_inverse below may take the place of a division.
struct AffineParameters {
    f64 scale, inverse, zero_point;
    bool exact;
};

// `narrow`: the elements are float32 numbers.
QE_DEVICE AffineParameters affine_parameters(const IntegerRule &r, f64 scale, f64 zero_point, bool narrow) {
    AffineParameters p = {scale, 0.0, zero_point, false};
    if (r.bits == 32) {
        if (r.step == QE_RECIPROCAL || r.zero_point == QE_ZERO_POINT_FUSED) {
            p.inverse = f32_to_f64(div_rn_f32(1.0f, f64_to_f32(scale)));
        }
    } else {
        p.exact = narrow && lt_f64(0x1p-400, scale) && lt_f64(scale, 0x1p400);
        if (p.exact) p.inverse = div_rn_f64(1.0, scale);
    }
    return p;
}

// x / scale rounded once, without a division: with the rounded inverse, x * inverse is off by two units in the last
// place at most, one remainder makes it faithful, and a second one (exact then) correctly rounded (Markstein, 1990).
// Nothing over- or underflows for float32 numbers x and 2**-400 < scale < 2**400. -0 becomes 0.
QE_DEVICE f64 divided_by_inverse(f64 x, f64 scale, f64 inverse) {
    f64 negative = neg_f64(scale), q = mul_rn_f64(x, inverse);
    q = fma_rn_f64(fma_rn_f64(q, negative, x), inverse, q);
    return fma_rn_f64(fma_rn_f64(q, negative, x), inverse, q);
}

// What is rounded, of a finite x; infinite where it leaves the type of the arithmetic.
QE_DEVICE f64 scaled_value(const IntegerRule &r, f64 x, const AffineParameters &p) {
    if (r.bits == 64) {
        f64 v = p.exact ? divided_by_inverse(x, p.scale, p.inverse) : div_rn_f64(x, p.scale);
        return r.zero_point == QE_ZERO_POINT_AFTER ? v : add_rn_f64(v, p.zero_point);
    }
    f32 a = f64_to_f32(x), s = f64_to_f32(p.scale), inverse = f64_to_f32(p.inverse), z = f64_to_f32(p.zero_point);
    if (r.zero_point == QE_ZERO_POINT_FUSED) return f32_to_f64(fma_rn_f32(a, inverse, z));
    f32 v = r.step == QE_DIVIDE ? div_rn_f32(a, s) : mul_rn_f32(a, inverse);
    return f32_to_f64(r.zero_point == QE_ZERO_POINT_AFTER ? v : add_rn_f32(v, z));
}

// A real to a whole number; infinities stay, since inf - inf compares false. v - trunc(v) is exact; v - floor(v) is not
// for small negative v, but rounds to 1/2 from above only, where half up goes up anyway; half down looks from above.
// `word` is for the stochastic rule alone.
QE_DEVICE f64 round_real(f64 v, i32 rounding, u32 word) {
    f64 whole;
    bool up;
    switch (rounding) {
    case QE_HALF_EVEN: return rint_f64(v);
    case QE_ROUND_FLOOR: return floor_f64(v);
    case QE_ROUND_CEIL: return ceil_f64(v);
    case QE_ROUND_TRUNC: return trunc_f64(v);
    case QE_HALF_AWAY:
        whole = trunc_f64(v);
        return le_f64(0.5, abs_f64(sub_rn_f64(v, whole))) ? add_rn_f64(whole, copysign_f64(1.0, v)) : whole;
    case QE_HALF_TOWARD_ZERO:
        whole = trunc_f64(v);
        return lt_f64(0.5, abs_f64(sub_rn_f64(v, whole))) ? add_rn_f64(whole, copysign_f64(1.0, v)) : whole;
    case QE_HALF_DOWN:
        whole = ceil_f64(v);
        return le_f64(0.5, sub_rn_f64(whole, v)) ? sub_rn_f64(whole, 1.0) : whole;
    case QE_HALF_UP:
        whole = floor_f64(v);
        up = le_f64(0.5, sub_rn_f64(v, whole));
        break;
    default:
        whole = floor_f64(v);
        up = lt_f64(mul_rn_f64(u32_to_f64(word), 0x1p-32), sub_rn_f64(v, whole));
    }
    return up ? add_rn_f64(whole, 1.0) : whole;
}

// The code before the clamp, whole or infinite; `word` is the element's draw.
QE_DEVICE f64 whole_code(const IntegerRule &r, f64 x, const AffineParameters &p, u32 word) {
    f64 w = round_real(scaled_value(r, x, p), r.rounding, word);
    return r.zero_point == QE_ZERO_POINT_AFTER ? add_rn_f64(w, p.zero_point) : w;
}

// What code q (whole, in int32) stands for; float32 conventions round the scale first.
QE_DEVICE f64 dequantized(i32 rule, f64 q, f64 scale, f64 zero_point) {
    if (rule == QE_DEQUANTIZE_FLOAT64) return mul_rn_f64(sub_rn_f64(q, zero_point), scale);
    f32 s = f64_to_f32(scale);
    if (rule == QE_DEQUANTIZE_SUBTRACT) return f32_to_f64(mul_rn_f32(f64_to_f32(sub_rn_f64(q, zero_point)), s));
    f32 product = mul_rn_f32(f64_to_f32(zero_point), s), a = f64_to_f32(q);
    if (rule == QE_DEQUANTIZE_EXPANDED) return f32_to_f64(sub_rn_f32(mul_rn_f32(a, s), product));
    return f32_to_f64(fma_rn_f32(a, s, neg_f32(product)));
}

// `index` is the element's in its tensor.
QE_DEVICE Coded integer_code_and_value(const IntegerRule &r, f64 x, const AffineParameters &p, u64 index) {
    u32 word = r.rounding == QE_STOCHASTIC ? draw_word(r.seed, index) : 0;
    f64 w = whole_code(r, x, p, word), q = min_f64(max_f64(w, r.qmin), r.qmax);
    i32 code = f64_to_i32_rz(sub_rn_f64(q, r.qmin));
    return {eq_f64(q, w) ? code : -1 - code, dequantized(r.dequantization, q, p.scale, p.zero_point)};
}

// The same where each element brings its own scale.
QE_DEVICE Coded integer_code_and_value(
    const IntegerRule &r, f64 x, bool narrow, f64 scale, f64 zero_point, u64 index) {
    return integer_code_and_value(r, x, affine_parameters(r, scale, zero_point, narrow), index);
}
