// Error statistics of many quantizers: tiles of a flat tensor in one launch, and the sums of each tile from its parts.
//
// Element i of the tensor belongs to metric channel i / length % channels. Where runs of one channel are long, warps take
// pieces of them (errors_runs_..., errors_fast_...); where they are short, threads take columns of the matrix whose rows
// are length * channels elements (errors_columns_...): of a tile no more columns than it has elements, and where rows are
// wide the columns of a whole run. Every part writes its own sums; errors_combine adds up those of the channels that a
// tile meets, from the channel of its first element on.
// A block serves one quantizer (four of the fast ones), neighbouring blocks the next: x comes from memory once.
#define QE_REGISTERS_FIRST
#include "compiler.cuh"
#include "errors.cuh"
#include "errors_fast.cuh"
#include "errors_pieces.cuh"

// ---- any quantizer
QE_DEVICE AnyRule any_rule(const Plan &plan, i32 k, bool narrow) {
    const i64 *row = plan.rows + (u64)k * QE_AFFINE_ROW;
    u64 place = (u64)plan.places[k];
    bool format = row[QE_AFFINE_FAMILY] == QE_FORMAT_FAMILY;
    return {row, plan.layouts + 4 * (u64)k, plan.format_rows + (u64)k * QE_FORMAT_ROW, plan.scales + place,
            plan.zero_points + place, plan.format_numbers + (u64)k * QE_FORMAT_NUMBERS, load_rule(row), format, narrow};
}

// The warps' pieces by the convention's own arithmetic: all elements, or with `left` those fours of a lane that the fast
// loop has left (bit i: the i-th), whose sums join what it stored.
template <class X>
QE_DEVICE void runs(const Tiles &t, const X *x, const Plan &plan, const u64 *left, i32 watches, f64 *sums, u32 *counts,
                    f64 *ends, u64 *bad, const Tables &tables) {
    QE_SHARED u32 codes[QE_SHARED_CODES], bins[QE_ERROR_BINS];
    u32 lane = lane_index(), nth = blockIdx.x % (u32)plan.served;
    i32 k = plan.which[nth];
    bool watching = watches && nth == 0;
    Counters counters = counters_of(tables, plan, k, codes, bins);
    if (counters.bins) {
        clear_tables(codes, QE_SHARED_CODES);
        clear_tables(bins, QE_ERROR_BINS);
    }
    AnyRule rule = any_rule(plan, k, IsNarrow<X>::value);
    u64 pieces = tiles_of(t) * t.per_tile;
    u64 warps = blockDim.x / QE_WARP, step = (u64)(gridDim.x / (u32)plan.served) * warps;
    QE_NO_UNROLL
    for (u64 number = (u64)(blockIdx.x / (u32)plan.served) * warps + threadIdx.x / QE_WARP; number < pieces;
         number += step) {
        u64 item = number * (u64)plan.quantizers + (u64)k;
        u64 todo = left ? left[item * QE_WARP + lane] : ~0ull;
        if (left && warp_ballot(todo != 0) == 0) continue;
        Piece piece = piece_of(t, number);
        bool one = piece.start < piece.stop && one_scale(piece, rule.layout);
        u64 at = one ? parameters_of(piece.start, rule.layout) : 0;
        Sums s = no_sums();
        Ends e = {infinite<f64>(), -infinite<f64>()};
        QE_NO_UNROLL
        for (u64 i = piece.start + 4 * lane; todo && i < piece.stop; i += 4 * QE_WARP, todo >>= 1) {
            QE_NO_UNROLL
            for (u64 j = i; (todo & 1) && j < i + 4 && j < piece.stop; ++j) {
                f64 v = widened(x[j - t.first]);
                if (watching) look_at(e, v, j, bad + 2 * (number / t.per_tile));
                if (!finite_f64(v)) continue;
                add_element(s, v, code_at(rule, v, j, one ? at : parameters_of(j, rule.layout)), counters);
            }
        }
        combine_lanes(s);
        if (watching && !left) {
            combine_ends(e);
            if (lane == 0) {
                ends[2 * number] = e.low;
                ends[2 * number + 1] = e.high;
            }
        }
        if (lane == 0) {
            if (left) join(s, sums + item * QE_FIELDS, counts + item * QE_COUNTS);
            else store_sums(s, sums + item * QE_FIELDS, counts + item * QE_COUNTS);
        }
    }
    if (counters.bins) {
        __syncthreads();
        drain(tables, k, counters);
    }
}

// ---- short runs: a thread takes of every `slices`-th row its column, or its run. Rows begin at the tile's first element,
// or at that of its run.
template <class X>
QE_DEVICE void columns(const Tiles &t, const X *x, const Plan &plan, u64 slices, i32 watches, f64 *sums, u32 *counts,
                       f64 *ends, u64 *bad, const Tables &tables) {
    QE_SHARED u32 codes[QE_SHARED_CODES], bins[QE_ERROR_BINS];
    u32 nth = blockIdx.x % (u32)plan.served;
    i32 k = plan.which[nth];
    Counters counters = counters_of(tables, plan, k, codes, bins);
    if (counters.bins) {
        clear_tables(codes, QE_SHARED_CODES);
        clear_tables(bins, QE_ERROR_BINS);
    }
    AnyRule rule = any_rule(plan, k, IsNarrow<X>::value);
    u64 width = t.length * t.channels, run = t.per_run, lanes = t.per_tile, per_tile = slices * lanes;
    // What a thread takes has the same parameters where the rows are whole turns through them, and a run has one scale.
    u64 length = (u64)rule.layout[0], group = (u64)rule.layout[1];
    bool one = rule.layout[2] * rule.layout[3] == 1 || (width % (length * (u64)rule.layout[3]) == 0
                                                        && (run == 1 || (length == run && group >= length)));
    u64 step = (u64)(gridDim.x / (u32)plan.served) * blockDim.x;
    QE_NO_UNROLL
    for (u64 number = (u64)(blockIdx.x / (u32)plan.served) * blockDim.x + threadIdx.x; number < tiles_of(t) * per_tile;
         number += step) {
        u64 tile = number / per_tile, place = number % per_tile, begin = begin_of(t, tile), end = end_of(t, tile);
        u64 from = begin - begin % run + place / lanes * width + place % lanes * run;
        u64 at = parameters_of(from, rule.layout);
        Sums s = no_sums();
        Ends e = {infinite<f64>(), -infinite<f64>()};
        QE_NO_UNROLL
        for (; from < end; from += slices * width) {
            u64 stop = from + run < end ? from + run : end;
            QE_NO_UNROLL
            for (u64 i = from < begin ? begin : from; i < stop; ++i) {
                f64 v = widened(x[i - t.first]);
                if (watches && nth == 0) look_at(e, v, i, bad + 2 * tile);
                if (!finite_f64(v)) continue;
                add_element(s, v, code_at(rule, v, i, one ? at : parameters_of(i, rule.layout)), counters);
            }
        }
        if (watches && nth == 0) {
            ends[2 * number] = e.low;
            ends[2 * number + 1] = e.high;
        }
        u64 item = number * (u64)plan.quantizers + (u64)k;
        store_sums(s, sums + item * QE_FIELDS, counts + item * QE_COUNTS);
    }
    if (counters.bins) {
        __syncthreads();
        drain(tables, k, counters);
    }
}

// ---- sums of tiles: one thread a tile, quantizer, channel that it meets and field adds up what the channel's parts found
#define QE_SLOTS (QE_FIELDS + QE_COUNTS)

// Visit the parts of a tile's `nth` channel, in order.
template <class Visit> QE_DEVICE void each_part(const Tiles &t, u64 slices, u64 tile, u64 nth, Visit visit) {
    u64 lanes = t.per_tile, start = begin_of(t, tile) % t.length;
    if (slices && t.per_run == t.length) {
        QE_NO_UNROLL
        for (u64 slice = 0; nth < lanes && slice < slices; ++slice) visit((tile * slices + slice) * lanes + nth);
        return;
    }
    if (slices) {
        u64 from = nth ? nth * t.length - start : 0, stop = (nth + 1) * t.length - start;
        u64 again = nth ? lanes : t.length * t.channels - start;  // what is before the first element of its run
        QE_NO_UNROLL
        for (u64 slice = 0; slice < slices; ++slice) {
            u64 base = (tile * slices + slice) * lanes;
            QE_NO_UNROLL
            for (u64 j = from; j < stop && j < lanes; ++j) visit(base + j);
            QE_NO_UNROLL
            for (u64 j = again; j < lanes; ++j) visit(base + j);
        }
        return;
    }
    u64 runs = t.per_tile / t.per_run;
    QE_NO_UNROLL
    for (u64 run = nth; run < runs; run += t.channels) {
        QE_NO_UNROLL
        for (u64 j = 0; j < t.per_run; ++j) visit(tile * t.per_tile + run * t.per_run + j);
    }
}

QE_KERNEL(128, errors_combine)(
    u64 first, u64 n, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices, i32 quantizers,
    const f64 *sums, const u32 *counts, f64 *out, i64 *out_counts) {
    Tiles t = {first, n, size, length, channels, per_run, per_tile};
    u64 seen = channels_seen(t), items = tiles_of(t) * (u64)quantizers * seen * QE_SLOTS;
    for (u64 item = thread_number(); item < items; item += thread_count()) {
        u64 slot = item % QE_SLOTS, cell = item / QE_SLOTS, nth = cell % seen;
        u64 k = cell / seen % (u64)quantizers, tile = cell / seen / (u64)quantizers;
        if (slot >= QE_FIELDS) {
            u64 total = 0, which = slot - QE_FIELDS;
            each_part(t, slices, tile, nth, [&](u64 part) {
                total += counts[(part * (u64)quantizers + k) * QE_COUNTS + which];
            });
            out_counts[cell * QE_COUNTS + which] = (i64)total;
        } else if (slot == QE_MAX_ABS) {
            f64 most = 0.0;
            each_part(t, slices, tile, nth, [&](u64 part) {
                most = max_f64(most, sums[(part * (u64)quantizers + k) * QE_FIELDS + slot]);
            });
            out[cell * QE_FIELDS + slot] = most;
        } else if (slot != QE_SUM_E_LOW) {
            Pair total = {0.0, 0.0};
            each_part(t, slices, tile, nth, [&](u64 part) {
                const f64 *at = sums + (part * (u64)quantizers + k) * QE_FIELDS + slot;
                add_exactly(total, at[0]);
                if (slot == QE_SUM_E_HIGH) add_exactly(total, at[1]);
            });
            // An overflow leaves NaN in the lower part: the sum itself is infinite, and refused.
            bool pair = slot == QE_SUM_E_HIGH;
            if (!pair && finite_f64(total.high)) total.high = add_rn_f64(total.high, total.low);
            out[cell * QE_FIELDS + slot] = total.high;
            if (pair) out[cell * QE_FIELDS + QE_SUM_E_LOW] = total.low;
        }
    }
}

QE_KERNEL(128, errors_ends)(
    u64 first, u64 n, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices, const f64 *ends,
    f64 *out) {
    Tiles t = {first, n, size, length, channels, per_run, per_tile};
    u64 seen = channels_seen(t);
    for (u64 item = thread_number(); item < tiles_of(t) * seen; item += thread_count()) {
        Ends e = {infinite<f64>(), -infinite<f64>()};
        each_part(t, slices, item / seen, item % seen, [&](u64 part) {
            e.low = min_f64(e.low, ends[2 * part]);
            e.high = max_f64(e.high, ends[2 * part + 1]);
        });
        out[2 * item] = e.low;
        out[2 * item + 1] = e.high;
    }
}

// ---- the kernels: all parts take the same, behind the elements, and name what they do not need
#define QE_ERRORS_PARAMETERS \
    u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices, i32 quantizers, i32 served, \
    const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places, const f64 *scales, \
    const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers, i32 leftovers, \
    u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad, i32 counting, const i64 *starts, u64 *codes, \
    u64 *bins
#define QE_ERRORS_TILES {first, n, size, length, channels, per_run, per_tile}
#define QE_ERRORS_PLAN \
    {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows, format_numbers}
#define QE_ERRORS_TABLES {counting ? starts : nullptr, codes, bins}

QE_BLOCK_KERNEL(256, errors_runs_f32)(u64 first, u64 n, const f32 *x, QE_ERRORS_PARAMETERS) {
    (void)slices;
    runs<f32>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, leftovers ? left : nullptr, watches, sums, counts, ends, bad,
              QE_ERRORS_TABLES);
}

QE_BLOCK_KERNEL(128, errors_columns_f32)(u64 first, u64 n, const f32 *x, QE_ERRORS_PARAMETERS) {
    (void)leftovers, (void)left;
    columns<f32>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, slices, watches, sums, counts, ends, bad, QE_ERRORS_TABLES);
}

QE_BLOCK_KERNEL(256, errors_runs_f64)(u64 first, u64 n, const f64 *x, QE_ERRORS_PARAMETERS) {
    (void)slices;
    runs<f64>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, leftovers ? left : nullptr, watches, sums, counts, ends, bad,
              QE_ERRORS_TABLES);
}

QE_BLOCK_KERNEL(128, errors_columns_f64)(u64 first, u64 n, const f64 *x, QE_ERRORS_PARAMETERS) {
    (void)leftovers, (void)left;
    columns<f64>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, slices, watches, sums, counts, ends, bad, QE_ERRORS_TABLES);
}

QE_BLOCK_KERNEL(128, errors_fast64_f32)(u64 first, u64 n, const f32 *x, QE_ERRORS_PARAMETERS) {
    (void)slices, (void)leftovers, (void)bad;
    fast<false, false>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, left, watches, sums, counts, ends, QE_ERRORS_TABLES);
}

QE_BLOCK_KERNEL(128, errors_fast64_counted_f32)(u64 first, u64 n, const f32 *x, QE_ERRORS_PARAMETERS) {
    (void)slices, (void)leftovers, (void)bad;
    fast<false, true>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, left, watches, sums, counts, ends, QE_ERRORS_TABLES);
}

QE_BLOCK_KERNEL(128, errors_fast32_f32)(u64 first, u64 n, const f32 *x, QE_ERRORS_PARAMETERS) {
    (void)slices, (void)leftovers, (void)bad;
    fast<true, false>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, left, watches, sums, counts, ends, QE_ERRORS_TABLES);
}

QE_BLOCK_KERNEL(128, errors_fast32_counted_f32)(u64 first, u64 n, const f32 *x, QE_ERRORS_PARAMETERS) {
    (void)slices, (void)leftovers, (void)bad;
    fast<true, true>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, left, watches, sums, counts, ends, QE_ERRORS_TABLES);
}

QE_BLOCK_KERNEL(128, errors_fast64_f64)(u64 first, u64 n, const f64 *x, QE_ERRORS_PARAMETERS) {
    (void)slices, (void)leftovers, (void)bad;
    fast<false, false>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, left, watches, sums, counts, ends, QE_ERRORS_TABLES);
}

QE_BLOCK_KERNEL(128, errors_fast64_counted_f64)(u64 first, u64 n, const f64 *x, QE_ERRORS_PARAMETERS) {
    (void)slices, (void)leftovers, (void)bad;
    fast<false, true>(QE_ERRORS_TILES, x, QE_ERRORS_PLAN, left, watches, sums, counts, ends, QE_ERRORS_TABLES);
}
