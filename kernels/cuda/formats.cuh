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

// A format's row and numbers in registers; 0 <= mantissa <= 7.
struct FormatRule {
    i32 kind, codebook, mantissa, max_code, over_code, sign, flip, emax;
    i32 low;  // least exponent, biased as float64's: 1 <= low
    bool even;
    i64 threshold;
    f64 over_value, cap, up, down, zero;
    const f64 *numbers;
};
QE_DEVICE FormatRule load_format(const i64 *row, const f64 *numbers) {
    return {(i32)row[QE_FORMAT_SCALE], (i32)row[QE_FORMAT_CODEBOOK], (i32)row[QE_FORMAT_MANTISSA],
            (i32)row[QE_FORMAT_MAX_CODE], (i32)row[QE_FORMAT_OVER_CODE], (i32)row[QE_FORMAT_SIGN],
            (i32)row[QE_FORMAT_FLIP], (i32)row[QE_FORMAT_EMAX], (i32)row[QE_FORMAT_MIN_EXPONENT] + QE_F64_BIAS,
            row[QE_FORMAT_ROUNDING] == QE_HALF_EVEN, row[QE_FORMAT_SCALE_THRESHOLD], numbers[QE_FORMAT_OVER_VALUE],
            numbers[QE_FORMAT_CAP], numbers[QE_FORMAT_UP], numbers[QE_FORMAT_DOWN], numbers[QE_FORMAT_ZERO], numbers};
}

// Exponent of a block's E8M0 scale from the bits of its largest magnitude; that of zero and of subnormals is the least.
QE_DEVICE i32 e8m0_exponent(i32 emax, i64 threshold, u64 top_bits) {
    i32 up = (i64)(top_bits & QE_F64_FRACTION) > threshold ? 1 : 0;
    return clamp_i32((i32)(top_bits >> 52) - QE_F64_BIAS + up - emax, -QE_E8M0_LIMIT, QE_E8M0_LIMIT);
}

// e4m3fn(float32(float32(top / 6) / tensor_scale)), saturating, ties to even: its code, and its value.
QE_DEVICE Coded e4m3_scale(f64 top, f64 tensor_scale) {
    f64 q = min_f64(single(div_rn_f64(single(div_rn_f64(top, 6.0)), tensor_scale)), 448.0);
    i64 k = max_i64(biased_exponent(q) - QE_F64_BIAS, QE_E4M3_MIN_EXPONENT);
    f64 whole = rint_f64(mul_rn_f64(q, power_of_two(QE_E4M3_MANTISSA - k)));
    i32 code = (i32)(k - QE_E4M3_MIN_EXPONENT) * (1 << QE_E4M3_MANTISSA) + f64_to_i32_rz(whole);
    return {code, mul_rn_f64(whole, power_of_two(k - QE_E4M3_MANTISSA))};
}

// The scale of a block as it is stored, from the bits of its largest magnitude (a finite float64): its code, if it has
// one, and its value without the tensor's scale.
QE_DEVICE Coded stored_scale(i32 kind, i32 emax, i64 threshold, u64 top_bits, f64 tensor_scale) {
    if (kind == QE_SCALE_E8M0) {
        i32 exponent = e8m0_exponent(emax, threshold, top_bits);
        return {exponent + QE_E8M0_LIMIT, power_of_two(exponent)};
    }
    if (kind == QE_SCALE_E4M3) return e4m3_scale(bits_f64(top_bits), tensor_scale);
    return {0, kind == QE_SCALE_ABSMAX ? single(bits_f64(top_bits)) : tensor_scale};
}
// What the elements are scaled by.
QE_DEVICE f64 whole_scale(i32 kind, f64 stored, f64 tensor_scale) {
    return kind == QE_SCALE_E4M3 ? single(mul_rn_f64(stored, tensor_scale)) : stored;
}

// A scale with what dividing by it needs: `inverse` is what x is multiplied by, or (`exact`) the rounded inverse of
// affine.cuh's divided_by_inverse. A scale of zero makes every x a zero.
struct FormatScale {
    f64 scale, inverse;
    bool exact;
};
// `narrow`: the elements are float32 numbers.
QE_DEVICE FormatScale format_scale(i32 kind, f64 scale, bool narrow) {
    // The bits of a power of two and of its inverse add up to this; E8M0 scales and their inverses are normal.
    if (kind == QE_SCALE_E8M0) {
        return {scale, bits_f64(((u64)(2 * QE_F64_BIAS) << 52) - f64_bits(scale)), false};
    }
    if (eq_f64(scale, 0.0)) return {scale, 0.0, false};
    if (kind == QE_SCALE_ABSMAX) {
        f64 exact = div_rn_f64(1.0, scale), reciprocal = single(exact);
        return {scale, finite_f64(reciprocal) ? reciprocal : exact, false};
    }
    bool exact = narrow && lt_f64(0x1p-400, scale) && lt_f64(scale, 0x1p400);
    return {scale, exact ? div_rn_f64(1.0, scale) : 0.0, exact};
}

// x over its scale as the format computes it, x finite.
QE_DEVICE f64 format_scaled(i32 kind, f64 x, const FormatScale &s) {
    if (kind == QE_SCALE_E8M0) return mul_rn_f64(x, s.inverse);
    if (kind == QE_SCALE_ABSMAX) return single(mul_rn_f64(x, s.inverse));
    f64 v;
    if (s.exact) v = copysign_f64(divided_by_inverse(x, s.scale, s.inverse), x);  // a zero too
    else if (eq_f64(s.scale, 0.0)) v = mul_rn_f64(x, 0.0);
    else v = div_rn_f64(x, s.scale);
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

// Code and value of a finite x: a code in [0, levels), or -1 - code where x lies beyond the largest finite value;
// element * scale, exact for E8M0 scales, otherwise rounded to float32.
QE_DEVICE Coded format_code_and_value(const FormatRule &r, f64 x, const FormatScale &s) {
    f64 v = format_scaled(r.kind, x, s);
    if (r.codebook) {
        const f64 *values = r.numbers + QE_FORMAT_VALUES;
        i32 code = look_up(r.numbers, v);
        bool outside = r.kind == QE_SCALE_TENSOR && (lt_f64(v, values[0]) || lt_f64(values[QE_CODEBOOK - 1], v));
        return {outside ? -1 - code : code, single(mul_rn_f64(values[code], s.scale))};
    }
    bool quotient = r.kind == QE_SCALE_TENSOR || r.kind == QE_SCALE_E8M0;
    if (!r.even && quotient && !eq_f64(x, 0.0) && lt_f64(abs_f64(v), QE_TINY)) v = copysign_f64(QE_TINY, x);
    // The cap is at most 2**18, so that low <= k <= 2046 - 52 and 0 <= y < 2**9.
    f64 a = min_f64(abs_f64(v), r.cap);
    i32 k = max_i32((i32)biased_exponent(a), r.low), m = r.mantissa;
    f64 y = mul_rn_f64(a, bits_f64((u64)(u32)(2 * QE_F64_BIAS + m - k) << 52));
    if (!r.even) {
        y = copysign_f64(y, v);
        f64 whole = trunc_f64(y), rest = sub_rn_f64(y, whole);
        if (le_f64(r.up, rest)) whole = add_rn_f64(whole, 1.0);
        if (le_f64(rest, r.down)) whole = sub_rn_f64(whole, 1.0);
        y = abs_f64(whole);
    }
    f64 sum = add_rn_f64(y, QE_ROUNDER), magnitude = sub_rn_f64(sum, QE_ROUNDER);
    i32 code = (i32)(f64_bits(sum) & 0xffff) + ((k - r.low) << m);
    bool over = code > r.max_code;
    f64 element = over ? r.over_value : mul_rn_f64(magnitude, bits_f64((u64)(u32)(k - m) << 52));
    element = add_rn_f64(copysign_f64(element, v), r.zero);
    if (over) code = r.over_code;
    if (f64_bits(v) >> 63) code = (code ^ r.flip) - r.flip + r.sign;
    code &= 0xff;
    f64 product = mul_rn_f64(element, s.scale);
    return {over ? -1 - code : code, r.kind == QE_SCALE_E8M0 ? product : single(product)};
}

// The same where each element brings its own scale.
QE_DEVICE Coded format_code_and_value(const i64 *row, const f64 *numbers, f64 x, f64 scale) {
    FormatRule rule = load_format(row, numbers);
    return format_code_and_value(rule, x, format_scale(rule.kind, scale, false));
}
