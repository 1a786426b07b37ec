// Two schemes that take every pair, whole groups of pairs: the loops that a couple alone is swept by.
#pragma once
#include "compiler.cuh"
#include "draws.cuh"
#include "evaluate.cuh"
#include "sweep_cells.cuh"

// Each pair is counted once, by bin and by its difference from -1 to 2, with no branch: cell 4 * bin + (difference + 1)
// modulo 4. The few with other differences are evaluated again and moved away from there, so that nothing of a pair
// waits in registers. `swapped`: the kernel's first scheme is the second one of the couple.
QE_DEVICE void move_away(u32 *near, i32 swapped, i32 first, i32 second, u32 *cells, u32 *differ) {
    atomicAdd(near, ~0u);
    atomicAdd(differ, 1u);
    count_difference(cells, swapped ? second : first, swapped ? first : second);
}

// Adds what was counted so to the cells of the couple; `seen` is null where the pairs of a bin are known.
QE_DEVICE void settle(const u32 *near, u32 bins, i32 swapped, u32 *cells, u32 *differ, u64 *seen) {
    u32 *zero = cells + 1 + QE_LIMIT + 1;
    i32 sign = swapped ? -1 : 1;
    for (u32 k = threadIdx.x; k < bins; k += blockDim.x) {
        u32 less = near[4 * k], same = near[4 * k + 1], more = near[4 * k + 2], two = near[4 * k + 3];
        u64 all = (u64)less + same + more + two + differ[k];
        differ[k] += less + more + two;
        if (less) atomicAdd(zero - sign, less);
        if (more) atomicAdd(zero + sign, more);
        if (two) {
            atomicAdd(zero + 2 * sign, two);
            atomicMax(cells, 2u);
        }
        if (seen && all) atomicAdd(seen + k, all);
    }
}

// A multiplier of its own and one word for each accumulator. What costs is Philox, then every instruction: so biases of
// floor forms, which depend on the exponent and on the sign of x alone, come from a table in shared memory, one vector
// for both schemes.
struct Outputs {
    i32 first, second;
};

struct alignas(16) Biases {
    i64 first, second;
};

struct Range {
    u32 key0, key1;
    f64 real_low, real_width;
    i32 acc_low;
    u32 word_shift;
    i32 first_bin, bins;
};

struct Compared {
    u32 above;  // the difference plus 1
    u32 place;  // 4 * bin + (above modulo 4), and QE_EXPONENT
    i32 first, second;
};

// Exponent bits of a float64 whose bin is 0: constant, so that addresses cost one instruction.
#define QE_EXPONENT (1022 - 64)

// Mantissas of 31 bits, none flushed: |a x + b| < 2**63, and the results fit int32. `mask` is 2**30 - 1, which the
// compiler must not know: with two constants it makes two instructions of one.
template <bool FLOAT>
QE_DEVICE Compared compare_drawn(const Range &r, const Biases *biases, u32 mask, u32 word, u32 next) {
    f64 real = draw_real(word, r.real_low, r.real_width);
    i32 x = draw_word(next, r.acc_low, r.word_shift);
    u64 bits = f64_bits(real) + (1u << 21);  // as split_q31
    u32 high = (u32)(bits >> 32), exponent = high >> 20;
    i32 value = (i32)((funnel_right_u32((u32)bits, high, 22) & mask) | 0x40000000u), t = 31 + 1022 - (i32)exponent;
    const Biases b = biases[(i32)funnel_right_u32((u32)x, exponent, 31) - 2 * QE_EXPONENT];  // of (bin, x < 0)
    Compared c;
    c.first = (i32)shift_right_i64(fused_mad_wide_i32(value, x, b.first), t);
    if (FLOAT) c.second = f32_to_i32_rn(mul_rn_f32(i32_to_f32(x), f64_to_f32(real)));
    else c.second = (i32)shift_right_i64(fused_mad_wide_i32(value, x, b.second), t);
    c.above = (u32)c.first - (u32)c.second + 1;
    c.place = bit_select_u32(3, high >> 18, c.above);
    return c;
}

template <bool FLOAT>
QE_DEVICE void range_segment(
    u64 first_group, u64 groups, u64 size, const Range &r, const i64 *biases, i32 swapped, u64 *seen, u64 *totals,
    u32 *found) {
    constexpr u32 BLOCKS = QE_GROUP / 2 / QE_THREADS;  // of Philox, each of two pairs, a thread and group
    QE_SHARED u32 cells[QE_FIXED_CELLS + 2 * QE_MOST_BINS], near[4 * QE_MOST_BINS];
    QE_SHARED Biases table[2 * QE_MOST_BINS];
    u32 bins = (u32)r.bins;
    clear(cells, QE_FIXED_CELLS + 2 * bins);
    clear(near, 4 * QE_MOST_BINS);
    for (u32 k = threadIdx.x; k < 2 * QE_MOST_BINS; k += blockDim.x) table[k] = {biases[2 * k], biases[2 * k + 1]};
    __syncthreads();
    u64 begin = blockIdx.x * size, end = begin + size < groups ? begin + size : groups;
    u32 *differ = cells + QE_FIXED_CELLS + bins, mask = 0x3fffffffu + threadIdx.y;
    i32 lead = r.first_bin - 1;
    QE_NO_UNROLL
    for (u64 group = first_group + begin; group < first_group + end; ++group) {
        u64 base = group * (QE_GROUP / 2);  // the upper half is that of all blocks of the group
        u32 low = (u32)base | threadIdx.x, high = (u32)(base >> 32), far = 0;
        Compared pairs[2 * BLOCKS];
        QE_UNROLL
        for (u32 k = 0; k < BLOCKS; ++k) {
            u32x4 w = philox_words(low + k * QE_THREADS, high, r.key0, r.key1);
            pairs[2 * k] = compare_drawn<FLOAT>(r, table, mask, w.x, w.y);
            pairs[2 * k + 1] = compare_drawn<FLOAT>(r, table, mask, w.z, w.w);
        }
        QE_UNROLL
        for (u32 k = 0; k < 2 * BLOCKS; ++k) {
            atomicAdd(near + ((i32)pairs[k].place - 4 * QE_EXPONENT), 1u);
            far |= pairs[k].above & ~3u;
        }
        if (far == 0) continue;
        QE_NO_UNROLL
        for (u32 k = 0; k < BLOCKS; ++k) {
            u32x4 w = philox_words(low + k * QE_THREADS, high, r.key0, r.key1);
            QE_NO_UNROLL
            for (u32 half = 0; half < 2; ++half) {
                Compared c = compare_drawn<FLOAT>(r, table, mask, half ? w.z : w.x, half ? w.w : w.y);
                if (c.above <= 3) continue;
                i32 place = (i32)c.place - 4 * QE_EXPONENT;
                move_away(near + place, swapped, c.first, c.second, cells, differ + (place / 4 - lead));
            }
        }
    }
    __syncthreads();
    settle(near + 4 * (lead + 1), bins - 1, swapped, cells, differ + 1, seen + 1);
    __syncthreads();
    deliver(cells, QE_FIXED_CELLS + 2 * bins, 1, totals, found + blockIdx.x, 1);
}
// The same schemes with any other draw of the accumulator and with bounds.
template <bool FLOAT> QE_DEVICE Outputs compare_pair(
    const Scheme &a, const Scheme &b, const Biases *biases, const Pair &pair, u32 &bin) {
    Multiplier m = split_q31(pair.real);
    bin = (u32)(m.exponent + 64);
    const Biases bias = biases[2 * bin + (pair.x < 0)];
    i32 t = 31 - m.exponent, y = (i32)shift_right_i64(fused_mad_wide_i32(m.value, pair.x, bias.first), t), z;
    if (FLOAT) z = f32_to_i32_rn(mul_rn_f32(i32_to_f32(pair.x), f64_to_f32(pair.real)));
    else z = (i32)shift_right_i64(fused_mad_wide_i32(m.value, pair.x, bias.second), t);
    return {clamp_i32(y, a.low, a.high) + a.add, clamp_i32(z, b.low, b.high) + b.add};
}

template <bool FLOAT>
QE_DEVICE void drawn_segment(
    u64 first_group, u64 groups, u64 size, const Plan *plan, const Source *sources, const f64 *deviates,
    const Scheme *schemes, const i64 *biases, i32 swapped, u64 *seen, u64 *totals, u32 *found) {
    QE_SHARED u32 cells[QE_FIXED_CELLS + 2 * QE_MOST_BINS], near[4 * QE_MOST_BINS];
    QE_SHARED Biases table[2 * QE_MOST_BINS];
    const Plan p = *plan;
    const Scheme a = schemes[swapped], b = schemes[1 - swapped];
    const Source source = load_source(sources);
    u32 bins = (u32)p.bins, blocks = QE_GROUP / (u32)p.pairs_per_block;
    clear(cells, QE_FIXED_CELLS + 2 * bins);
    clear(near, 4 * QE_MOST_BINS);
    for (u32 k = threadIdx.x; k < 2 * QE_MOST_BINS; k += blockDim.x) table[k] = {biases[2 * k], biases[2 * k + 1]};
    __syncthreads();
    u64 begin = blockIdx.x * size, end = begin + size < groups ? begin + size : groups;
    u32 *differ = cells + QE_FIXED_CELLS + bins;
    i32 lead = p.first_bin - 1;
    QE_NO_UNROLL
    for (u64 group = first_group + begin; group < first_group + end; ++group) {
        QE_NO_UNROLL
        for (u32 block = threadIdx.x; block < blocks; block += QE_THREADS) {
            u32x4 words = philox_block(group * blocks + block, p.key0, p.key1);
            QE_NO_UNROLL
            for (i32 slot = 0; slot < p.pairs_per_block; ++slot) {
                u32 bin;
                Outputs y = compare_pair<FLOAT>(a, b, table, draw_pair(p, source, deviates, words, slot, 0), bin);
                u32 above = (u32)y.first - (u32)y.second + 1, *cell = near + (4 * bin | (above & 3));
                atomicAdd(cell, 1u);
                if (above > 3) move_away(cell, swapped, y.first, y.second, cells, differ + ((i32)bin - lead));
            }
        }
    }
    __syncthreads();
    settle(near + 4 * (lead + 1), bins - 1, swapped, cells, differ + 1, seen + 1);
    __syncthreads();
    deliver(cells, QE_FIXED_CELLS + 2 * bins, 1, totals, found + blockIdx.x, 1);
}
// Channels in turn, or one. A warp takes the 64 Philox blocks of a run at a time, so that all of its pairs have one
// channel a slot: two runs, or four where a word is enough for an accumulator, which is for one channel only.
//
// Every accumulator is in both domains, and no range of accumulators has 2**32 of them unless a word is enough.
template <bool FLOAT> QE_DEVICE i32 rounded_slot(const Slot &c, i32 x) {
    if (FLOAT) return f32_to_i32_rn(mul_rn_f32(i32_to_f32(x), bits_f32((u32)c.a)));
    return (i32)shift_right_i64(fused_mad_wide_i32(c.a, x, x >= 0 ? c.p : c.q), c.t);
}

// All that the pairs of a channel need, in the order of places (see draws.cuh): one address.
struct alignas(16) Couple {
    Slot first, second;
    Source source;
};
static_assert(sizeof(Couple) == 128, "eight vectors");
QE_DEVICE Couple load_couple(const Couple *at) {
    return {load_slot(&at->first), load_slot(&at->second), load_source(&at->source)};
}

// One word, results as they are: biases from shared memory by the sign of x, a vector for both schemes.
template <bool FLOAT>
QE_DEVICE Outputs compare_word(const Couple &c, const Biases *biases, i32 x) {
    const Biases bias = biases[(u32)x >> 31];
    Outputs y;
    y.first = (i32)shift_right_i64(fused_mad_wide_i32(c.first.a, x, bias.first), c.first.t);
    if (FLOAT) y.second = rounded_slot<true>(c.second, x);
    else y.second = (i32)shift_right_i64(fused_mad_wide_i32(c.second.a, x, bias.second), c.second.t);
    return y;
}

template <bool FLOAT> QE_DEVICE Outputs compare_clamped(const Couple &c, i32 x) {
    return {clamp_i32(rounded_slot<false>(c.first, x), c.first.low, c.first.high) + c.first.add,
            clamp_i32(rounded_slot<FLOAT>(c.second, x), c.second.low, c.second.high) + c.second.add};
}

template <bool WORD, bool FLOAT>
QE_DEVICE void table_segment(
    u64 first_group, u64 groups, u64 size, u32 key0, u32 key1, u32 word_shift, const Couple *couples, u64 turn,
    u32 bins, i32 swapped, u64 *totals, u32 *found) {
    constexpr u32 SLOTS = WORD ? 4 : 2, BLOCKS = QE_GROUP / SLOTS, WARPS = QE_THREADS / QE_WARP;
    QE_SHARED u32 cells[QE_FIXED_CELLS + 2 * (QE_MOST_BINS + 1)], near[4 * (QE_MOST_BINS + 1)];
    QE_SHARED Biases table[2];
    clear(cells, QE_FIXED_CELLS + 2 * bins);
    clear(near, 4 * bins);
    Couple c = load_couple(couples);
    if (threadIdx.x == 0) table[0] = {c.first.p, c.second.p};
    if (threadIdx.x == 1) table[1] = {c.first.q, c.second.q};
    __syncthreads();
    u64 begin = blockIdx.x * size, end = begin + size < groups ? begin + size : groups;
    u32 *differ = cells + QE_FIXED_CELLS + bins, warp = threadIdx.x / QE_WARP;
    // Places are below turn + 32, and channels fit 31 bits.
    u32 at = (u32)((first_group + begin) * (QE_GROUP / QE_RUN) % turn), step = (u32)(QE_GROUP / QE_RUN % turn);
    QE_NO_UNROLL
    for (u64 group = first_group + begin; group < first_group + end; ++group) {
        u64 base = group * BLOCKS;  // the upper half is that of all blocks of the group
        QE_NO_UNROLL
        for (u32 run = warp; run < BLOCKS / QE_RUN; run += WARPS) {
            u32 far = 0, low = ((u32)base | lane_index()) + run * QE_RUN, high = (u32)(base >> 32);
            u32x4 words[2] = {philox_words(low, high, key0, key1), philox_words(low + QE_WARP, high, key0, key1)};
            QE_UNROLL
            for (u32 k = 0; k < SLOTS; ++k) {
                if (!WORD) c = load_couple(couples + (at + run + k * (BLOCKS / QE_RUN)));
                QE_UNROLL
                for (u32 j = 0; j < 2; ++j) {
                    Outputs y;
                    if (WORD) {
                        i32 x = draw_word(word_of(words[j], (i32)k), c.source.acc_low, word_shift);
                        y = compare_word<FLOAT>(c, table, x);
                    } else {
                        u32 upper = word_of(words[j], 2 * (i32)k), lower = word_of(words[j], 2 * (i32)k + 1);
                        y = compare_clamped<FLOAT>(c, draw_below(upper, lower, c.source.acc_low, c.source.size));
                    }
                    u32 above = (u32)y.first - (u32)y.second + 1;
                    atomicAdd(near + ((u32)(4 * c.source.bin) | (above & 3)), 1u);
                    far |= above & ~3u;
                }
            }
            if (far == 0) continue;
            QE_NO_UNROLL
            for (u32 k = 0; k < 2 * SLOTS; ++k) {
                u32x4 w = philox_words(low + k % 2 * QE_WARP, high, key0, key1);
                Couple d = load_couple(couples + (at + run + k / 2 * (BLOCKS / QE_RUN)));
                const Source &here = d.source;
                i32 at_word = (i32)(k / 2 * (4 / SLOTS));
                u32 upper = word_of(w, at_word), lower = word_of(w, at_word + 1);
                i32 x = WORD ? draw_word(upper, here.acc_low, word_shift)
                             : draw_below(upper, lower, here.acc_low, here.size);
                Outputs y = compare_clamped<FLOAT>(d, x);
                u32 above = (u32)y.first - (u32)y.second + 1;
                if (above <= 3) continue;
                u32 *cell = near + ((u32)(4 * here.bin) | (above & 3));
                move_away(cell, swapped, y.first, y.second, cells, differ + here.bin);
            }
        }
        at += step;
        if (at >= turn) at -= (u32)turn;
    }
    __syncthreads();
    settle(near, bins, swapped, cells, differ, (u64 *)0);
    __syncthreads();
    deliver(cells, QE_FIXED_CELLS + 2 * bins, 1, totals, found + blockIdx.x, 1);
}
