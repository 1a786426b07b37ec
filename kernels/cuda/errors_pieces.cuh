// Which part of a tensor a thread or a warp takes for the error statistics, and what it shares with others: the plan of
// all quantizers, the ends of x, tables of counts.
#pragma once
#include "compiler.cuh"
#include "errors.cuh"

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
