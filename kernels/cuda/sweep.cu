// Sweep tiles: draw pairs, evaluate schemes, count where they differ.
//
// A block takes a segment, whole groups of pairs in a row, and counts in shared memory (sweep_cells.cuh). In the end it
// adds to the tile's 64-bit counts: integers, so that no order of blocks shows.
#include "compiler.cuh"
#include "draws.cuh"
#include "evaluate.cuh"
#include "sweep_cells.cuh"
#include "sweep_couple.cuh"

// ---- any schemes
QE_DEVICE Output evaluate(
    const Plan &p, const Scheme *s, const Slot *slots, u64 places, u64 place, const Pair &pair, const Multiplier &q31) {
    if (p.drawn) return evaluate_drawn(*s, pair.x, pair.real, q31);
    return evaluate_slot(*s, load_slot(slots + s->row * places + place), pair.x);
}

// Up to 16 schemes and as many couples of them as have cells. Outputs wait in shared memory, a column a thread.
QE_BLOCK_KERNEL(256, sweep_any)(
    u64 start, u64 stop, u64 size, const Plan *plan, const Source *sources, const f64 *table, const Scheme *schemes,
    u32 count, const Slot *slots, u64 places, const u8 *couples, u32 couple_count, i32 counts_bins, u64 *seen,
    u64 *outside, u64 *totals, u32 *found, u64 segments) {
    QE_SHARED u32 cells[QE_MOST_CELLS];
    QE_SHARED i32 outputs[QE_MOST_SCHEMES * QE_THREADS];
    QE_SHARED u32 bins[QE_MOST_BINS + 1], out[QE_MOST_SCHEMES];
    const Plan p = *plan;
    u32 width = QE_FIXED_CELLS + 2 * (u32)p.bins;
    clear(cells, width * couple_count);
    clear(bins, (u32)p.bins);
    clear(out, count);
    __syncthreads();
    Segment segment = segment_of(start, stop, size, blockIdx.x);
    u32 blocks = QE_GROUP / (u32)p.pairs_per_block;
    i32 *mine = outputs + threadIdx.x;
    QE_NO_UNROLL
    for (u64 group = segment.first; group < segment.stop; group += QE_GROUP) {
        u64 at = group / QE_RUN % p.turn;
        QE_NO_UNROLL
        for (u32 block = threadIdx.x; block < blocks; block += QE_THREADS) {
            u32x4 words = {};
            if (p.acc_kind != QE_ACC_SEQUENTIAL) {
                words = philox_block(group / (u32)p.pairs_per_block + block, p.key0, p.key1);
            }
            QE_NO_UNROLL
            for (i32 slot = 0; slot < p.pairs_per_block; ++slot) {
                u32 inside = block + (u32)slot * blocks;
                u64 index = group + inside, place = at + inside / QE_RUN;
                if (index < segment.start || index >= segment.stop) continue;
                Source source = load_source(sources + place);
                Pair pair = draw_pair(p, source, table, words, slot, index);
                Multiplier q31 = {};
                i32 bin = source.bin;
                if (p.drawn) {
                    q31 = flushed(split_q31(pair.real));
                    bin = q31.value ? q31.exponent + 64 - p.first_bin + 1 : 0;
                    if (counts_bins) atomicAdd(bins + bin, 1u);
                }
                u32 fits = 0;
                QE_NO_UNROLL
                for (u32 k = 0; k < count; ++k) {
                    Output y = evaluate(p, schemes + k, slots, places, place, pair, q31);
                    mine[k * QE_THREADS] = y.y;
                    fits |= (u32)y.fits << k;
                    if (!y.fits && schemes[k].counted) atomicAdd(out + k, 1u);
                }
                QE_NO_UNROLL
                for (u32 c = 0; c < couple_count; ++c) {
                    u32 i = couples[2 * c], j = couples[2 * c + 1];
                    i32 first = mine[i * QE_THREADS], second = mine[j * QE_THREADS];
                    bool both = (fits >> i) & (fits >> j) & 1;
                    if (both && first == second) continue;
                    u32 *own = cells + c * width;
                    atomicAdd(own + QE_FIXED_CELLS + (both ? p.bins : 0) + bin, 1u);
                    if (both) count_difference(own, first, second);
                }
            }
        }
    }
    __syncthreads();
    deliver(cells, width, couple_count, totals, found + blockIdx.x, segments);
    if (p.drawn && counts_bins) {
        for (u32 k = threadIdx.x; k < (u32)p.bins; k += blockDim.x) {
            if (bins[k]) atomicAdd(seen + k, (u64)bins[k]);
        }
    }
    for (u32 k = threadIdx.x; k < count; k += blockDim.x) {
        if (out[k]) atomicAdd(outside + schemes[k].row, (u64)out[k]);
    }
}

// The first pairs of a segment, in order, in which the two schemes of a task differ. A task: start, stop, how many,
// where in `witnesses` they go, the numbers of the schemes. It has a block of its own.
QE_BLOCK_KERNEL(256, sweep_witnesses)(
    const u64 *tasks, const Plan *plan, const Source *sources, const f64 *table, const Scheme *schemes,
    const Slot *slots, u64 places, i64 *witnesses) {
    QE_SHARED u32 warps[QE_THREADS / QE_WARP];
    const Plan p = *plan;
    const u64 *task = tasks + 6 * blockIdx.x;
    u64 stop = task[1], wanted = task[2], taken = 0;
    i64 *mine = witnesses + task[3];
    const Scheme *first = schemes + task[4], *second = schemes + task[5];
    u32 blocks = QE_GROUP / (u32)p.pairs_per_block;
    for (u64 base = task[0]; base < stop && taken < wanted; base += blockDim.x) {
        u64 index = base + threadIdx.x, group = index / QE_GROUP;
        u32 inside = (u32)(index % QE_GROUP);
        u64 place = group * (QE_GROUP / QE_RUN) % p.turn + inside / QE_RUN;
        bool differ = false;
        if (index < stop) {
            u32x4 words = {};
            if (p.acc_kind != QE_ACC_SEQUENTIAL) {
                words = philox_block(group * blocks + inside % blocks, p.key0, p.key1);
            }
            Pair pair = draw_pair(p, load_source(sources + place), table, words, (i32)(inside / blocks), index);
            Multiplier q31 = {};
            if (p.drawn) q31 = flushed(split_q31(pair.real));
            Output a = evaluate(p, first, slots, places, place, pair, q31);
            Output b = evaluate(p, second, slots, places, place, pair, q31);
            differ = a.fits && b.fits && a.y != b.y;
        }
        u32 votes = warp_ballot(differ), warp = threadIdx.x / QE_WARP;
        __syncthreads();  // the counts of the turn before have been read
        if (lane_index() == 0) warps[warp] = (u32)bit_count_u32(votes);
        __syncthreads();
        u64 before = taken + (u32)bit_count_u32(votes & ((1u << lane_index()) - 1));
        for (u32 k = 0; k < blockDim.x / QE_WARP; ++k) {
            before += k < warp ? warps[k] : 0;
            taken += warps[k];
        }
        if (differ && before < wanted) mine[before] = (i64)index;
    }
}

// ---- two schemes that take every pair, whole groups
QE_BLOCK_KERNEL(256, sweep_range_floor)(
    u64 first_group, u64 groups, u64 size, u32 key0, u32 key1, f64 real_low, f64 real_width, i32 acc_low,
    u32 word_shift, i32 first_bin, i32 bins, const i64 *biases, i32 swapped, u64 *seen, u64 *totals, u32 *found) {
    range_segment<false>(first_group, groups, size,
                         {key0, key1, real_low, real_width, acc_low, word_shift, first_bin, bins}, biases, swapped,
                         seen, totals, found);
}
QE_BLOCK_KERNEL(256, sweep_range_float)(
    u64 first_group, u64 groups, u64 size, u32 key0, u32 key1, f64 real_low, f64 real_width, i32 acc_low,
    u32 word_shift, i32 first_bin, i32 bins, const i64 *biases, i32 swapped, u64 *seen, u64 *totals, u32 *found) {
    range_segment<true>(first_group, groups, size,
                        {key0, key1, real_low, real_width, acc_low, word_shift, first_bin, bins}, biases, swapped,
                        seen, totals, found);
}
QE_BLOCK_KERNEL(256, sweep_drawn_floor)(
    u64 first_group, u64 groups, u64 size, const Plan *plan, const Source *sources, const f64 *deviates,
    const Scheme *schemes, const i64 *biases, i32 swapped, u64 *seen, u64 *totals, u32 *found) {
    drawn_segment<false>(first_group, groups, size, plan, sources, deviates, schemes, biases, swapped, seen, totals,
                         found);
}
QE_BLOCK_KERNEL(256, sweep_drawn_float)(
    u64 first_group, u64 groups, u64 size, const Plan *plan, const Source *sources, const f64 *deviates,
    const Scheme *schemes, const i64 *biases, i32 swapped, u64 *seen, u64 *totals, u32 *found) {
    drawn_segment<true>(first_group, groups, size, plan, sources, deviates, schemes, biases, swapped, seen, totals,
                        found);
}
QE_BLOCK_KERNEL(256, sweep_word_floor)(
    u64 first_group, u64 groups, u64 size, u32 key0, u32 key1, u32 word_shift, const Couple *couples, u64 turn,
    u32 bins, i32 swapped, u64 *totals, u32 *found) {
    table_segment<true, false>(first_group, groups, size, key0, key1, word_shift, couples, turn, bins, swapped, totals,
                               found);
}
QE_BLOCK_KERNEL(256, sweep_word_float)(
    u64 first_group, u64 groups, u64 size, u32 key0, u32 key1, u32 word_shift, const Couple *couples, u64 turn,
    u32 bins, i32 swapped, u64 *totals, u32 *found) {
    table_segment<true, true>(first_group, groups, size, key0, key1, word_shift, couples, turn, bins, swapped, totals,
                               found);
}
QE_BLOCK_KERNEL(256, sweep_table_floor)(
    u64 first_group, u64 groups, u64 size, u32 key0, u32 key1, u32 word_shift, const Couple *couples, u64 turn,
    u32 bins, i32 swapped, u64 *totals, u32 *found) {
    table_segment<false, false>(first_group, groups, size, key0, key1, word_shift, couples, turn, bins, swapped, totals,
                               found);
}
QE_BLOCK_KERNEL(256, sweep_table_float)(
    u64 first_group, u64 groups, u64 size, u32 key0, u32 key1, u32 word_shift, const Couple *couples, u64 turn,
    u32 bins, i32 swapped, u64 *totals, u32 *found) {
    table_segment<false, true>(first_group, groups, size, key0, key1, word_shift, couples, turn, bins, swapped, totals,
                               found);
}
