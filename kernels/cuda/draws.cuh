// The draws of a sweep: words of Philox into accumulators and multipliers (layout: GROUP of kernels/codes.py).
#pragma once
#include "compiler.cuh"
#include "philox.cuh"

#define QE_GROUP 2048
#define QE_RUN 64

#define QE_ACC_UNIFORM 0
#define QE_ACC_QUANTILE 1
#define QE_ACC_SEQUENTIAL 2
#define QE_ACC_UNSATURATED 3

// What a sweep draws, the same for all pairs.
struct alignas(16) Plan {
    u64 turn;                    // channels; a group holds 32 runs, so that the next one starts 32 % turn further on
    f64 real_low, real_width;    // the width times 2**-32
    f64 clamp_low, clamp_high;   // clamp minus zero point: what unsaturated results lie between
    u32 key0, key1;
    i32 drawn;                   // 1: a multiplier a pair; 0: channels
    i32 pairs_per_block;
    i32 acc_kind;
    i32 word_shift;              // one word an accumulator: 32 - log2(size); -1: two words
    i32 output_units, log_uniform;
    i32 first_bin;               // bin b is counted in cell b - first_bin + 1, bin 0 in cell 0
    i32 bins;                    // cells
};
static_assert(sizeof(Plan) == 80, "no holes");

// How the accumulators of one channel are drawn. Channels stand in the order of their runs: run number r of the sweep
// has place r % turn, and the first 32 stand again behind the last, so that a group's runs are 32 places in a row.
struct alignas(16) Source {
    i32 acc_low;
    u32 span;  // the greatest minus the least: below 2**32
    i32 bin;   // cell
    u32 size;  // span + 1, 0 for 2**32
    f64 center, spread;
};
static_assert(sizeof(Source) == 32, "two vectors");

QE_DEVICE Source load_source(const Source *at) {
    const i32 *words = (const i32 *)at;
    i32x4 a = cached_i32x4(words), b = cached_i32x4(words + 4);
    return {a.x, (u32)a.y, a.z, (u32)a.w,
            bits_f64((u64)(u32)b.y << 32 | (u32)b.x), bits_f64((u64)(u32)b.w << 32 | (u32)b.z)};
}

// Two to the power of v by the polynomial of EXP2_COEFFICIENTS, |v| <= 60: the definition, rounding by rounding.
QE_DEVICE f64 exp2_drawn(f64 v) {
    f64 k = rint_f64(v), f = sub_rn_f64(v, k), p = 2.5678435993488206e-11;
    p = add_rn_f64(mul_rn_f64(p, f), 4.4455382718708116e-10);
    p = add_rn_f64(mul_rn_f64(p, f), 7.054911620801123e-09);
    p = add_rn_f64(mul_rn_f64(p, f), 1.01780860092397e-07);
    p = add_rn_f64(mul_rn_f64(p, f), 1.321548679014431e-06);
    p = add_rn_f64(mul_rn_f64(p, f), 1.5252733804059841e-05);
    p = add_rn_f64(mul_rn_f64(p, f), 0.0001540353039338161);
    p = add_rn_f64(mul_rn_f64(p, f), 0.0013333558146428443);
    p = add_rn_f64(mul_rn_f64(p, f), 0.009618129107628477);
    p = add_rn_f64(mul_rn_f64(p, f), 0.05550410866482158);
    p = add_rn_f64(mul_rn_f64(p, f), 0.24022650695910072);
    p = add_rn_f64(mul_rn_f64(p, f), 0.6931471805599453);
    p = add_rn_f64(mul_rn_f64(p, f), 1.0);
    // p lies in [0.7, 1.42]: adding k to its exponent is exact.
    return bits_f64(f64_bits(p) + ((u64)(i64)f64_to_i32_rn(k) << 52));
}

// low + (w + 1/2) * width, the width with its 2**-32, an exact scaling: w + 1/2 and width / 2 are exact, so that
// w * width + width / 2 rounded once is the rounded product.
QE_DEVICE f64 draw_real(u32 word, f64 real_low, f64 real_width) {
    return add_rn_f64(real_low, fma_rn_f64(u32_to_f64(word), real_width, mul_rn_f64(real_width, 0.5)));
}

// A range whose size is a power of two: the word's upper bits.
QE_DEVICE i32 draw_word(u32 word, i32 acc_low, u32 word_shift) {
    return (i32)((u32)acc_low + shift_right_clamped_u32(word, word_shift));
}

// floor(w * size / 2**64) for w = high:low and size = span + 1 <= 2**32: both sums are below 2**64.
QE_DEVICE u32 scaled(u32 high, u32 low, u32 span) {
    u64 lower = mad_wide_u32(low, span, low);
    return (u32)((mad_wide_u32(high, span, high) + (lower >> 32)) >> 32);
}

// acc_low plus the same, for a size below 2**32, which fits a word: fewer instructions.
QE_DEVICE i32 draw_below(u32 high, u32 low, i32 acc_low, u32 size) {
    u64 upper = mul_wide_u32(high, size);
    return (i32)add_carry_of_u32((u32)upper, mul_high_u32(low, size), (u32)(upper >> 32), (u32)acc_low);
}

QE_DEVICE i32 draw_uniform(u32 high, u32 low, i32 acc_low, u32 span) {
    return (i32)((u32)acc_low + scaled(high, low, span));
}

// Standard deviate of 64 bits: sign from the top one, size from the table of the tail (kernels/reference/draws.py).
QE_DEVICE f64 deviate(u32 high, u32 low, const f64 *table) {
    i64 tail = (i64)((u64)(high & 0x7fffffffu) << 32 | low);
    u64 bits = f64_bits(i64_to_f64(min_i64(tail, 0x7ffffffffffffffell) + 1));
    u64 cell = (bits >> 44) - (1023u << 8);
    f64 fraction = mul_rn_f64(i64_to_f64((i64)(bits & ((1ull << 44) - 1))), 0x1p-44);
    f64 size = cached_f64(table + cell), next = cached_f64(table + cell + 1);
    size = add_rn_f64(size, mul_rn_f64(fraction, sub_rn_f64(next, size)));
    return high >> 31 ? neg_f64(size) : size;
}

// Clipped into int32, so the conversion is exact.
QE_DEVICE i32 draw_quantile(u32 high, u32 low, const Source &s, f64 spread, const f64 *table) {
    f64 x = rint_f64(add_rn_f64(s.center, mul_rn_f64(spread, deviate(high, low, table))));
    f64 least = i32_to_f64(s.acc_low), most = i32_to_f64((i32)((u32)s.acc_low + s.span));
    return f64_to_i32_rn(lt_f64(x, least) ? least : lt_f64(most, x) ? most : x);
}

// Uniform over the accumulators whose exact result lies between the clamps: some, as zero is one of them.
QE_DEVICE i32 draw_unsaturated(u32 high, u32 low, f64 real, f64 clamp_low, f64 clamp_high) {
    i32 bottom = f64_to_i32_rn(ceil_f64(max_f64(div_rn_f64(clamp_low, real), -2147483648.0)));
    i32 top = f64_to_i32_rn(floor_f64(min_f64(div_rn_f64(clamp_high, real), 2147483647.0)));
    return draw_uniform(high, low, bottom, (u32)top - (u32)bottom);
}

// The words of a pair's own share of its block: what remains is 0.
QE_DEVICE u32 word_of(const u32x4 &w, i32 k) { return k == 0 ? w.x : k == 1 ? w.y : k == 2 ? w.z : k == 3 ? w.w : 0; }

struct Pair {
    i32 x;
    f64 real;  // 0.0 where none is drawn
};

// Pair `index` at slot `slot` of the block with these words.
QE_DEVICE Pair draw_pair(const Plan &p, const Source &s, const f64 *table, const u32x4 &words, i32 slot, u64 index) {
    if (p.acc_kind == QE_ACC_SEQUENTIAL) return {(i32)((u32)s.acc_low + (u32)index), 0.0};
    i32 word = 4 / p.pairs_per_block * slot;
    f64 real = 0.0;
    if (p.drawn) {
        real = draw_real(word_of(words, word++), p.real_low, p.real_width);
        if (p.log_uniform) real = exp2_drawn(real);
    }
    u32 high = word_of(words, word), low = word_of(words, word + 1);
    if (p.word_shift >= 0) return {draw_word(high, s.acc_low, (u32)p.word_shift), real};
    if (p.acc_kind == QE_ACC_QUANTILE) {
        f64 spread = p.drawn && p.output_units ? div_rn_f64(s.spread, real) : s.spread;
        return {draw_quantile(high, low, s, spread, table), real};
    }
    if (p.acc_kind == QE_ACC_UNSATURATED && p.drawn) {
        return {draw_unsaturated(high, low, real, p.clamp_low, p.clamp_high), real};
    }
    return {draw_uniform(high, low, s.acc_low, s.span), real};
}
