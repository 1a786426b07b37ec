// Error statistics of many quantizers: tiles of a flat tensor in one launch, and the sums of each tile from its parts.
//
// Element i of the tensor belongs to metric channel i / length % channels. Where runs of one channel are long, warps take
// pieces of them (errors_runs_..., errors_fast_...); where they are short, threads take columns of the matrix whose rows
// are length * channels elements (errors_columns_...): of a tile no more columns than it has elements, and where rows are
// wide the columns of a whole run. Every part writes its own sums; errors_combine adds up those of the channels that a
// tile meets, from the channel of its first element on.
// A block serves one quantizer (four of the fast ones), neighbouring blocks the next: x comes from memory once.
#define QE_REGISTERS_FIRST
#include "errors.cuh"

#define QE_TOGETHER 4  // fast quantizers of a block

// What every part reads: element 0 of x is element `first` of the tensor, tiles follow one another.
struct Tiles {
    u64 first, n, size;        // of a tile; the last tile may be shorter
    u64 length, channels;
    u64 per_run, per_tile;     // pieces; of columns: those that a thread takes, and the threads of a slice
};
QE_DEVICE u64 tiles_of(const Tiles &t) { return (t.n + t.size - 1) / t.size; }
QE_DEVICE u64 begin_of(const Tiles &t, u64 tile) { return t.first + tile * t.size; }
QE_DEVICE u64 end_of(const Tiles &t, u64 tile) {
    return t.first + (t.n < (tile + 1) * t.size ? t.n : (tile + 1) * t.size);
}
// Channels that a tile meets at most.
QE_DEVICE u64 channels_seen(const Tiles &t) {
    u64 runs = (t.size - 1) / t.length + 2;
    return runs < t.channels ? runs : t.channels;
}

// The plan of all quantizers; `which` lists those that a launch serves.
struct Plan {
    i32 quantizers, served;
    const i32 *which;
    const i64 *rows, *layouts, *places;
    const f64 *scales, *zero_points, *numbers;
    const i64 *format_rows;
    const f64 *format_numbers;
};

struct Tables {
    const i64 *starts;  // null: nothing is counted
    u64 *codes, *bins;
};

// Elements [start, stop) of the tensor, all of one channel; empty where start >= stop.
struct Piece { u64 start, stop; };
QE_DEVICE Piece piece_of(const Tiles &t, u64 number) {
    u64 tile = number / t.per_tile, p = number % t.per_tile;
    u64 begin = begin_of(t, tile), end = end_of(t, tile);
    u64 run = begin / t.length + p / t.per_run, low = run * t.length, high = low + t.length;
    if (low < begin) low = begin;
    if (high > end) high = end;
    Piece piece = {low + p % t.per_run * QE_PIECE, high};
    if (piece.stop > piece.start + QE_PIECE) piece.stop = piece.start + QE_PIECE;
    return piece;
}

// Whether all elements of a piece have the parameters of its first.
QE_DEVICE bool one_scale(const Piece &p, const i64 *layout) {
    u64 length = (u64)layout[0], group = (u64)layout[1];
    if (layout[2] * layout[3] == 1) return true;
    u64 n = p.stop - p.start, column = p.start % length;
    return column % group + n <= group && column + n <= length;
}

// ---- x: its ends, and what is not finite
QE_DEVICE void note_bad(u64 *bad, u64 index) {
    atomicAdd(bad, (u64)1);
    atomicMin(bad + 1, index);
}
struct Ends { f64 low, high; };
QE_DEVICE void look_at(Ends &ends, f64 x, u64 index, u64 *bad) {
    if (finite_f64(x)) {
        ends.low = min_f64(ends.low, x);
        ends.high = max_f64(ends.high, x);
    } else {
        note_bad(bad, index);
    }
}

QE_DEVICE void combine_ends(Ends &e) {
    QE_NO_UNROLL
    for (i32 mask = 16; mask > 0; mask >>= 1) {
        e.low = min_f64(e.low, shuffle_xor_f64(e.low, mask));
        e.high = max_f64(e.high, shuffle_xor_f64(e.high, mask));
    }
}

// Four elements of a lane; those behind the m-th are NaN.
QE_DEVICE void load_elements(const f32 *x, bool vector, u32 m, f32 *v) {
    if (vector) {
        f32x4 a = load_f32x4(x);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
        return;
    }
    QE_UNROLL
    for (u32 k = 0; k < 4; ++k) v[k] = k < m ? x[k] : bits_f32(0x7fc00000u);
}
QE_DEVICE void load_elements(const f64 *x, bool vector, u32 m, f64 *v) {
    if (vector) {
        f64x2 a = load_f64x2(x), b = load_f64x2(x + 2);
        v[0] = a.x, v[1] = a.y, v[2] = b.x, v[3] = b.y;
        return;
    }
    QE_UNROLL
    for (u32 k = 0; k < 4; ++k) v[k] = k < m ? x[k] : bits_f64(0x7ff8000000000000ull);
}

// ---- tables of counts in shared memory
QE_DEVICE void clear_tables(u32 *table, u32 words) {
    for (u32 i = threadIdx.x; i < words; i += blockDim.x) table[i] = 0;
    __syncthreads();
}
QE_DEVICE void drain_table(const u32 *table, u32 words, u64 *out) {
    for (u32 i = threadIdx.x; i < words; i += blockDim.x) {
        if (table[i]) atomicAdd(out + i, (u64)table[i]);
    }
}
QE_DEVICE Counters counters_of(const Tables &t, const Plan &plan, i32 k, u32 *codes, u32 *bins) {
    if (!t.starts) return {nullptr, nullptr, nullptr, 0.0};
    bool near = t.starts[k + 1] - t.starts[k] <= QE_SHARED_CODES;
    f64 step = plan.numbers[k * QE_ERROR_NUMBERS + QE_ERROR_STEP];
    return {near ? codes : nullptr, bins, t.codes + t.starts[k], div_rn_f64(1.0, step)};
}
QE_DEVICE void drain(const Tables &t, i32 k, const Counters &c) {
    if (c.codes) drain_table(c.codes, (u32)(t.starts[k + 1] - t.starts[k]), t.codes + t.starts[k]);
    drain_table(c.bins, QE_ERROR_BINS, t.bins + (u64)k * QE_ERROR_BINS);
}

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

// ---- the fast loop: nearest codes with one scale for the piece
struct FastRule {
    f64 scale, limit;     // |e| up to this is certain
    f32 inverse, single;  // the scale, where values are float32
    u32 lowest, span;     // the bits of 1.5 * 2**23 + qmin - zero point; qmax - qmin
};

struct FastSums {
    f64 e2, abs, max, cross, value2;
    Pair e;      // from the offset on
    f32 codes2;  // sum of squares of codes without their zero point
    u64 left;    // bit i: of the lane's i-th four elements, some are left to the convention's own arithmetic
};

// Adding this to a float32 |x / s| < 2**22 rounds it to the code, ties to even: the bits of the sum are those of the
// constant plus the code. Sums of larger numbers, infinities and NaN have bits far from these.
#define QE_ROUNDER_F32 12582912.0f
// The bits of 1.5 * 2**23, as the low word of a float64 whose unit is 1: 2**52 + those bits.
#define QE_ROUNDER_F64 (0x1p52 + 1262485504.0)

QE_DEVICE FastRule fast_rule(const Plan &plan, i32 k, u64 index) {
    u64 at = (u64)plan.places[k] + parameters_of(index, plan.layouts + 4 * (u64)k);
    const i64 *row = plan.rows + (u64)k * QE_AFFINE_ROW;
    f64 s = plan.scales[at], tolerance = plan.numbers[k * QE_ERROR_NUMBERS + QE_ERROR_TOLERANCE];
    f32 lowest = f64_to_f32(sub_rn_f64(i64_to_f64(row[QE_AFFINE_QMIN]), plan.zero_points[at]));  // at most 256 in size
    return {s, mul_rn_f64(s, sub_rn_f64(0.5, tolerance)), f64_to_f32(div_rn_f64(1.0, s)), f64_to_f32(s),
            f32_bits(add_rn_f32(QE_ROUNDER_F32, lowest)), (u32)(row[QE_AFFINE_QMAX] - row[QE_AFFINE_QMIN])};
}

struct Fast {
    f64 value, e;
    f32 code;    // without its zero point
    u32 index;   // of the code; above the span where x is clamped or not finite
};

// SINGLE: values are float32 products of float32 x. Right where the index is in the span and |e| within the limit.
template <bool SINGLE> QE_DEVICE Fast find(const FastRule &r, f64 wide, f32 narrow) {
    Fast f;
    f32 sum = fma_rn_f32(narrow, r.inverse, QE_ROUNDER_F32);
    f.code = sub_rn_f32(sum, QE_ROUNDER_F32);
    f.index = f32_bits(sum) - r.lowest;
    if (SINGLE) {
        f.e = f32_to_f64(sub_rn_f32(narrow, mul_rn_f32(f.code, r.single)));
        f.value = sub_rn_f64(wide, f.e);
    } else {
        f64 whole = sub_rn_f64(bits_f64((u64)0x43300000u << 32 | f32_bits(sum)), QE_ROUNDER_F64);
        f.value = mul_rn_f64(whole, r.scale);
        f.e = sub_rn_f64(wide, f.value);
    }
    return f;
}

// The four elements of a step together, if all are certain. Their |e| are numbers: a NaN or an infinity has no index.
template <bool SINGLE> QE_DEVICE bool add_four(FastSums &s, const FastRule &r, const Fast *f, const f64 *x) {
    f64 size[4];
    QE_UNROLL
    for (u32 j = 0; j < 4; ++j) size[j] = abs_f64(f[j].e);
    f64 a = size[0] > size[1] ? size[0] : size[1], b = size[2] > size[3] ? size[2] : size[3], largest = a > b ? a : b;
    u32 c = f[0].index > f[1].index ? f[0].index : f[1].index, d = f[2].index > f[3].index ? f[2].index : f[3].index;
    if ((c > d ? c : d) > r.span || largest > r.limit) return false;
    s.max = largest > s.max ? largest : s.max;
    QE_UNROLL
    for (u32 j = 0; j < 4; ++j) {
        s.e2 = fma_rn_f64(f[j].e, f[j].e, s.e2);
        s.abs = add_rn_f64(s.abs, size[j]);
        add_below(s.e, f[j].e);
        if (SINGLE) s.value2 = fma_rn_f64(f[j].value, f[j].value, s.value2);
        else s.codes2 = fma_rn_f32(f[j].code, f[j].code, s.codes2);
        s.cross = fma_rn_f64(x[j], f[j].value, s.cross);
    }
    return true;
}

// Above every sum of a lane's errors in the fast loop, 256 of half a step: a power of two, 2**9 to 2**10 steps.
QE_DEVICE f64 offset_of(f64 scale) {
    return bits_f64((f64_bits(scale) & 0x7ff0000000000000ull) + ((u64)10 << 52));
}

// What a lane found, without what it left.
template <bool SINGLE> QE_DEVICE Sums sums_of(const FastSums &f, const FastRule &r, f64 x2, u32 count) {
    f64 codes2 = mul_rn_f64(mul_rn_f64(r.scale, r.scale), f32_to_f64(f.codes2));
    // The difference is exact: both are multiples of the offset's unit.
    Sums s = {f.e2, 0.0, f.abs, f.max, x2, SINGLE ? f.value2 : codes2, f.cross,
              {sub_rn_f64(f.e.high, offset_of(r.scale)), f.e.low}, count, 0, 0};
    return s;
}

template <bool SINGLE, bool COUNTS, class X>
QE_DEVICE void fast(const Tiles &t, const X *x, const Plan &plan, u64 *left, i32 watches, f64 *sums, u32 *counts,
                    f64 *ends, const Tables &tables) {
    QE_SHARED u32 codes[COUNTS ? QE_TOGETHER : 1][COUNTS ? QE_SHARED_CODES : 1];
    QE_SHARED u32 bins[COUNTS ? QE_TOGETHER : 1][COUNTS ? QE_ERROR_BINS : 1];
    u32 lane = lane_index(), quads = ((u32)plan.served + QE_TOGETHER - 1) / QE_TOGETHER, quad = blockIdx.x % quads;
    u32 live = (u32)plan.served - quad * QE_TOGETHER;
    bool watching = watches && quad == 0;
    Counters counters[QE_TOGETHER];
    QE_UNROLL
    for (u32 q = 0; q < QE_TOGETHER; ++q) {
        counters[q] = {nullptr, nullptr, nullptr, 0.0};
        if (COUNTS && q < live) {
            counters[q] = counters_of(tables, plan, plan.which[quad * QE_TOGETHER + q], codes[q], bins[q]);
            clear_tables(codes[q], QE_SHARED_CODES);
            clear_tables(bins[q], QE_ERROR_BINS);
        }
    }
    u64 pieces = tiles_of(t) * t.per_tile, warps = blockDim.x / QE_WARP;
    u64 step = (u64)(gridDim.x / quads) * warps;
    QE_NO_UNROLL
    for (u64 number = (u64)(blockIdx.x / quads) * warps + threadIdx.x / QE_WARP; number < pieces; number += step) {
        Piece piece = piece_of(t, number);
        FastRule rules[QE_TOGETHER];
        FastSums s[QE_TOGETHER];
        f64 x2 = 0.0;
        u32 finite = 0;
        u64 bit = 1;
        X low = infinite<X>(), high = -infinite<X>();
        QE_UNROLL
        for (u32 q = 0; q < QE_TOGETHER; ++q) {
            i32 k = plan.which[quad * QE_TOGETHER + (q < live ? q : 0)];
            rules[q] = fast_rule(plan, k, piece.start);
            s[q] = {0.0, 0.0, 0.0, 0.0, 0.0, {offset_of(rules[q].scale), 0.0}, 0.0f, 0};
        }
        bool vectors = (u64)(x + (piece.start - t.first)) % 16 == 0;  // and so are steps of four elements
        QE_NO_UNROLL
        for (u64 i = piece.start + 4 * lane; i < piece.stop; i += 4 * QE_WARP, bit <<= 1) {
            X v[4];
            f64 wide[4];
            u32 m = piece.stop - i < 4 ? (u32)(piece.stop - i) : 4;
            load_elements(x + (i - t.first), vectors && m == 4, m, v);
            QE_UNROLL
            for (u32 j = 0; j < 4; ++j) {
                wide[j] = widened(v[j]);
                if (!is_finite(v[j])) continue;
                x2 = fma_rn_f64(wide[j], wide[j], x2);
                low = least(low, v[j]);
                high = most(high, v[j]);
                ++finite;
            }
            QE_UNROLL
            for (u32 q = 0; q < QE_TOGETHER; ++q) {
                if (q >= live) continue;
                Fast f[4];
                QE_UNROLL
                for (u32 j = 0; j < 4; ++j) f[j] = find<SINGLE>(rules[q], wide[j], narrowed(v[j]));
                if (!add_four<SINGLE>(s[q], rules[q], f, wide)) {
                    s[q].left |= bit;
                } else if (COUNTS) {
                    QE_UNROLL
                    for (u32 j = 0; j < 4; ++j) count(counters[q], f[j].index, f[j].e);
                }
            }
        }
        QE_UNROLL
        for (u32 q = 0; q < QE_TOGETHER; ++q) {
            if (q >= live) continue;
            u64 item = number * (u64)plan.quantizers + (u64)plan.which[quad * QE_TOGETHER + q];
            left[item * QE_WARP + lane] = s[q].left;
            Sums all = sums_of<SINGLE>(s[q], rules[q], x2, finite);
            combine_lanes(all);
            if (lane == 0) store_sums(all, sums + item * QE_FIELDS, counts + item * QE_COUNTS);
        }
        if (watching) {
            Ends e = {widened(low), widened(high)};
            combine_ends(e);
            if (lane == 0) {
                ends[2 * number] = e.low;
                ends[2 * number + 1] = e.high;
            }
        }
    }
    if (COUNTS) {
        __syncthreads();
        QE_UNROLL
        for (u32 q = 0; q < QE_TOGETHER; ++q) {
            if (q < live) drain(tables, plan.which[quad * QE_TOGETHER + q], counters[q]);
        }
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

// ---- the kernels
QE_BLOCK_KERNEL(256, errors_runs_f32)(
    u64 first, u64 n, const f32 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)slices;
    runs<f32>({first, n, size, length, channels, per_run, per_tile}, x, plan, leftovers ? left : nullptr, watches,
              sums, counts, ends, bad, {counting ? starts : nullptr, codes, bins});
}

QE_BLOCK_KERNEL(128, errors_columns_f32)(
    u64 first, u64 n, const f32 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)leftovers, (void)left;
    columns<f32>({first, n, size, length, channels, per_run, per_tile}, x, plan, slices, watches, sums, counts, ends,
                 bad, {counting ? starts : nullptr, codes, bins});
}

QE_BLOCK_KERNEL(256, errors_runs_f64)(
    u64 first, u64 n, const f64 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)slices;
    runs<f64>({first, n, size, length, channels, per_run, per_tile}, x, plan, leftovers ? left : nullptr, watches,
              sums, counts, ends, bad, {counting ? starts : nullptr, codes, bins});
}

QE_BLOCK_KERNEL(128, errors_columns_f64)(
    u64 first, u64 n, const f64 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)leftovers, (void)left;
    columns<f64>({first, n, size, length, channels, per_run, per_tile}, x, plan, slices, watches, sums, counts, ends,
                 bad, {counting ? starts : nullptr, codes, bins});
}

QE_BLOCK_KERNEL(128, errors_fast64_f32)(
    u64 first, u64 n, const f32 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)slices, (void)leftovers, (void)bad;
    fast<false, false>({first, n, size, length, channels, per_run, per_tile}, x, plan, left, watches, sums,
                      counts, ends, {counting ? starts : nullptr, codes, bins});
}

QE_BLOCK_KERNEL(128, errors_fast64_counted_f32)(
    u64 first, u64 n, const f32 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)slices, (void)leftovers, (void)bad;
    fast<false, true>({first, n, size, length, channels, per_run, per_tile}, x, plan, left, watches, sums,
                      counts, ends, {counting ? starts : nullptr, codes, bins});
}

QE_BLOCK_KERNEL(128, errors_fast32_f32)(
    u64 first, u64 n, const f32 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)slices, (void)leftovers, (void)bad;
    fast<true, false>({first, n, size, length, channels, per_run, per_tile}, x, plan, left, watches, sums,
                      counts, ends, {counting ? starts : nullptr, codes, bins});
}

QE_BLOCK_KERNEL(128, errors_fast32_counted_f32)(
    u64 first, u64 n, const f32 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)slices, (void)leftovers, (void)bad;
    fast<true, true>({first, n, size, length, channels, per_run, per_tile}, x, plan, left, watches, sums,
                      counts, ends, {counting ? starts : nullptr, codes, bins});
}

QE_BLOCK_KERNEL(128, errors_fast64_f64)(
    u64 first, u64 n, const f64 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)slices, (void)leftovers, (void)bad;
    fast<false, false>({first, n, size, length, channels, per_run, per_tile}, x, plan, left, watches, sums,
                      counts, ends, {counting ? starts : nullptr, codes, bins});
}

QE_BLOCK_KERNEL(128, errors_fast64_counted_f64)(
    u64 first, u64 n, const f64 *x, u64 size, u64 length, u64 channels, u64 per_run, u64 per_tile, u64 slices,
    i32 quantizers, i32 served, const i32 *which, const i64 *rows, const i64 *layouts, const i64 *places,
    const f64 *scales, const f64 *zero_points, const f64 *numbers, const i64 *format_rows, const f64 *format_numbers,
    i32 leftovers, u64 *left, i32 watches, f64 *sums, u32 *counts, f64 *ends, u64 *bad,
    i32 counting, const i64 *starts, u64 *codes, u64 *bins) {
    Plan plan = {quantizers, served, which, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers};
    (void)slices, (void)leftovers, (void)bad;
    fast<false, true>({first, n, size, length, channels, per_run, per_tile}, x, plan, left, watches, sums,
                      counts, ends, {counting ? starts : nullptr, codes, bins});
}
