// Floating and block number formats: the scale of a block, the code of an element, and what it stands for. The rows and
// numbers are those of kernels/codes.py; kernels/reference/formats.py is the definition.
#pragma once
#include "affine.cuh"
#include "compiler.cuh"

// Positions in a format's row of int64, and kinds of scales.
#define QE_FORMAT_BLOCK 0
#define QE_FORMAT_SCALE 1
#define QE_FORMAT_CODEBOOK 2
#define QE_FORMAT_MANTISSA 3
#define QE_FORMAT_MIN_EXPONENT 4
#define QE_FORMAT_MAX_CODE 5
#define QE_FORMAT_OVER_CODE 6
#define QE_FORMAT_SIGN 7
#define QE_FORMAT_FLIP 8
#define QE_FORMAT_ROUNDING 9
#define QE_FORMAT_EMAX 10
#define QE_FORMAT_SCALE_THRESHOLD 11
#define QE_FORMAT_ROW 16
#define QE_SCALE_TENSOR 0
#define QE_SCALE_E8M0 1
#define QE_SCALE_E4M3 2
#define QE_SCALE_ABSMAX 3
#define QE_E8M0_LIMIT 127
#define QE_E4M3_MIN_EXPONENT -6
#define QE_E4M3_MANTISSA 3
// Positions in its numbers, float64.
#define QE_FORMAT_OVER_VALUE 0
#define QE_FORMAT_CAP 1
#define QE_FORMAT_UP 2
#define QE_FORMAT_DOWN 3
#define QE_FORMAT_ZERO 4
#define QE_FORMAT_THRESHOLDS 8
#define QE_FORMAT_VALUES 24
#define QE_CODEBOOK 16
#define QE_FORMAT_NUMBERS 40

#define QE_F64_BIAS 1023
#define QE_F64_FRACTION 0xfffffffffffffull
// Adding 2**52 to 0 <= y < 2**52 rounds y to an integer, ties to even, and its low bits are that integer.
#define QE_ROUNDER 0x1p52
// Quotients below this count as this: a directed rounding must see that they are not zero.
#define QE_TINY 1e-300

// 2**exponent, -1022 <= exponent <= 1023.
QE_DEVICE f64 power_of_two(i64 exponent) { return bits_f64((u64)(exponent + QE_F64_BIAS) << 52); }
QE_DEVICE i64 biased_exponent(f64 magnitude) { return (i64)(f64_bits(magnitude) >> 52); }
QE_DEVICE f64 single(f64 v) { return f32_to_f64(f64_to_f32(v)); }

// Exponent of a block's E8M0 scale from the bits of its largest magnitude; that of zero and of subnormals is the least.
QE_DEVICE i64 e8m0_exponent(const i64 *row, u64 top_bits) {
    i64 up = (i64)(top_bits & QE_F64_FRACTION) > row[QE_FORMAT_SCALE_THRESHOLD] ? 1 : 0;
    i64 exponent = (i64)(top_bits >> 52) - QE_F64_BIAS + up - row[QE_FORMAT_EMAX];
    return clamp_i64(exponent, -QE_E8M0_LIMIT, QE_E8M0_LIMIT);
}

// e4m3fn(float32(float32(top / 6) / tensor_scale)), saturating, ties to even.
QE_DEVICE f64 e4m3_scale(f64 top, f64 tensor_scale) {
    f64 q = min_f64(single(div_rn_f64(single(div_rn_f64(top, 6.0)), tensor_scale)), 448.0);
    i64 k = max_i64(biased_exponent(q) - QE_F64_BIAS, QE_E4M3_MIN_EXPONENT);
    f64 whole = rint_f64(mul_rn_f64(q, power_of_two(QE_E4M3_MANTISSA - k)));
    return mul_rn_f64(whole, power_of_two(k - QE_E4M3_MANTISSA));
}

// What the elements of a block are scaled by, from the bits of its largest magnitude (a finite float64).
QE_DEVICE f64 block_scale(const i64 *row, u64 top_bits, f64 tensor_scale) {
    switch (row[QE_FORMAT_SCALE]) {
    case QE_SCALE_E8M0: return power_of_two(e8m0_exponent(row, top_bits));
    case QE_SCALE_E4M3: return single(mul_rn_f64(e4m3_scale(bits_f64(top_bits), tensor_scale), tensor_scale));
    case QE_SCALE_ABSMAX: return single(bits_f64(top_bits));
    default: return tensor_scale;
    }
}

// x over its scale as the format computes it; a zero where the scale is zero.
QE_DEVICE f64 format_scaled(i64 kind, f64 x, f64 scale) {
    // The bits of a power of two and of its inverse add up to this; E8M0 scales and their inverses are normal.
    if (kind == QE_SCALE_E8M0) return mul_rn_f64(x, bits_f64(((u64)(2 * QE_F64_BIAS) << 52) - f64_bits(scale)));
    f64 divisor = eq_f64(scale, 0.0) ? bits_f64(0x7ff0000000000000ull) : scale;
    if (kind == QE_SCALE_ABSMAX) {
        f64 exact = div_rn_f64(1.0, divisor), reciprocal = single(exact);
        return single(mul_rn_f64(x, finite_f64(reciprocal) ? reciprocal : exact));
    }
    f64 v = div_rn_f64(x, divisor);
    return kind == QE_SCALE_E4M3 ? single(v) : v;
}

// The codebook: the number of thresholds below v, so that a midpoint goes to the lower code. The sixteenth is infinite.
QE_DEVICE i32 look_up(const f64 *numbers, f64 v) {
    const f64 *thresholds = numbers + QE_FORMAT_THRESHOLDS;
    i32 code = 0;
    QE_UNROLL
    for (i32 step = QE_CODEBOOK / 2; step > 0; step >>= 1) {
        if (lt_f64(thresholds[code + step - 1], v)) code += step;
    }
    return code;
}

// Code and value of a finite x with its scale: a code in [0, levels), or -1 - code where x lies beyond the largest
// finite value; element * scale, exact for E8M0 scales, otherwise rounded to float32.
QE_DEVICE Coded format_code_and_value(const i64 *row, const f64 *numbers, f64 x, f64 scale) {
    i64 kind = row[QE_FORMAT_SCALE];
    f64 v = format_scaled(kind, x, scale);
    if (row[QE_FORMAT_CODEBOOK]) {
        const f64 *values = numbers + QE_FORMAT_VALUES;
        i32 code = look_up(numbers, v);
        bool outside = kind == QE_SCALE_TENSOR && (lt_f64(v, values[0]) || lt_f64(values[QE_CODEBOOK - 1], v));
        return {outside ? -1 - code : code, single(mul_rn_f64(values[code], scale))};
    }
    bool even = row[QE_FORMAT_ROUNDING] == QE_HALF_EVEN, quotient = kind == QE_SCALE_TENSOR || kind == QE_SCALE_E8M0;
    if (!even && quotient && !eq_f64(x, 0.0) && lt_f64(abs_f64(v), QE_TINY)) v = copysign_f64(QE_TINY, x);
    // Biased exponents: 1 <= low <= k <= 2047 - 52, since the cap is at most 2**18; 0 <= m <= 7, so 0 <= y < 2**9.
    i64 m = row[QE_FORMAT_MANTISSA], low = row[QE_FORMAT_MIN_EXPONENT] + QE_F64_BIAS;
    f64 a = min_f64(abs_f64(v), numbers[QE_FORMAT_CAP]);
    i64 k = max_i64(biased_exponent(a), low);
    f64 y = mul_rn_f64(a, bits_f64((u64)(2 * QE_F64_BIAS + m - k) << 52));
    if (!even) {
        y = copysign_f64(y, v);
        f64 whole = trunc_f64(y), rest = sub_rn_f64(y, whole);
        if (le_f64(numbers[QE_FORMAT_UP], rest)) whole = add_rn_f64(whole, 1.0);
        if (le_f64(rest, numbers[QE_FORMAT_DOWN])) whole = sub_rn_f64(whole, 1.0);
        y = abs_f64(whole);
    }
    f64 sum = add_rn_f64(y, QE_ROUNDER), magnitude = sub_rn_f64(sum, QE_ROUNDER);
    i32 code = (i32)(f64_bits(sum) & 0xffff) + (i32)((k - low) << m);
    bool over = code > (i32)row[QE_FORMAT_MAX_CODE];
    f64 element = over ? numbers[QE_FORMAT_OVER_VALUE] : mul_rn_f64(magnitude, bits_f64((u64)(k - m) << 52));
    element = add_rn_f64(copysign_f64(element, v), numbers[QE_FORMAT_ZERO]);
    if (over) code = (i32)row[QE_FORMAT_OVER_CODE];
    if (f64_bits(v) >> 63) {
        i32 flip = (i32)row[QE_FORMAT_FLIP];
        code = (code ^ flip) - flip + (i32)row[QE_FORMAT_SIGN];
    }
    code &= 0xff;
    f64 product = mul_rn_f64(element, scale);
    return {over ? -1 - code : code, kind == QE_SCALE_E8M0 ? product : single(product)};
}
