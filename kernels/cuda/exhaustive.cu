// Two schemes over a run of consecutive accumulators, counted where they differ: the fastest loops of the package.
//
// A row of the table (QE_ROW numbers, written by exhaustive.py) is a range of accumulators on which each scheme is one
// line without a case: floor((a x + b) / 2**t), or a float32 product. Its blocks follow those of the row before it. The
// host has proved from (a, b, t), in exact integers, which two or three values the difference takes in the row, so that
// a sum is enough to count each of them.
//
// Everything is unsigned: xu = x + 2**31, and b stands for b - a * 2**31 modulo 2**64. In a row |a x + b| < 2**63, so
// one arithmetic shift of the sum modulo 2**64 is the floor; its low word is the result, or has its residue.
//
// What the compiler must see for one multiply-add, one shift and one sum a pair: the mantissa in a register of the
// thread that it cannot prove uniform (else it replaces products by 64-bit sums), the offset in the run uniform, and no
// branch around the loop that depends on the thread. A thread whose run passes the row's end therefore runs the loop in
// vain, and counts again one by one.
#include "compiler.cuh"
#include "reduce.cuh"

#define QE_RUN_STEP 16
#define QE_ROW 15
enum Column : u32 {
    ROW_BLOCK, ROW_FIRST, ROW_SIZE, ROW_A1, ROW_B1, ROW_T1, ROW_A2, ROW_B2, ROW_T2, ROW_LOW, ROW_HIGH,
    ROW_SCALE, ROW_CENTER, ROW_MASK, ROW_WINDOW
};
// 1.5 * 2**23: what is added to |v| <= 2**22 leaves v rounded half to even in the low bits of the sum.
#define QE_MAGIC 12582912.0f
#define QE_MAGIC_BITS 0x4b400000u
// A float row adds (d - center + QE_SHIFT)**2, where d - center is -1, 0 or 1. A thread has at most 1024 pairs, so the
// sum of squares stays below 2 * QE_SHIFT = 2**11, by which the sum of the differences is multiplied.
#define QE_SHIFT 1024u

// The last row whose first block is not behind this one.
QE_DEVICE const i64 *row_of(u64 rows, const i64 *table, u64 block) {
    u64 low = 0, high = rows;
    while (high - low > 1) {
        u64 middle = (low + high) / 2;
        if ((u64)table[middle * QE_ROW + ROW_BLOCK] <= block) low = middle;
        else high = middle;
    }
    return table + low * QE_ROW;
}

// Where this thread's run begins in its row (any 64-bit number), and how many of its pairs lie in the row.
struct Run { u64 at; u32 xu, count; };
QE_DEVICE Run run_of(const i64 *row, u32 run) {
    u64 at = (((u64)blockIdx.x - (u64)row[ROW_BLOCK]) * blockDim.x + threadIdx.x) * run, size = (u64)row[ROW_SIZE];
    u64 left = at < size ? size - at : 0;
    return {at, (u32)row[ROW_FIRST] + (u32)at, left < run ? (u32)left : run};
}

// A line from this thread's first accumulator on: the offset is added by one multiply-add.
struct Line {
    u32 a;
    u64 at;
    i32 t;
    QE_DEVICE i32 value(u32 offset) const { return (i32)shift_right_i64((i64)mad_wide_u32(a, offset, at), t); }
};
QE_DEVICE Line line_of(const i64 *row, u32 column, u32 xu) {
    u32 a = (u32)row[column] + threadIdx.y;  // 0 in a 1-D block, which the compiler does not know
    return {a, mad_wide_u32(a, xu, (u64)row[column + 1]), (i32)row[column + 2]};
}

// Each counter: add(from, j, sum) returns the sum with pair from + j, j a constant of the unrolled loop; pass(n) goes
// with `from` moving on by n, begin() with `from` back at 0.

// sum of y1 - y2
struct FloorCounter {
    Line first, second;
    QE_DEVICE FloorCounter(const i64 *row, u32 xu)
        : first(line_of(row, ROW_A1, xu)), second(line_of(row, ROW_A2, xu)) {}
    QE_DEVICE void begin() {}
    QE_DEVICE void pass(f32) {}
    QE_DEVICE u32 add(u32 from, u32 j, u32 sum) const {
        return sum + (u32)first.value(from + j) - (u32)second.value(from + j);
    }
};

// Same a and t, biases 2**30 apart: the schemes differ where bits 30 .. t-1 of a x + b are zero, for the larger b. Four
// times the line has them at the bottom of its high word; it is the offset that is multiplied by 4, a has 31 bits. The
// mask is 2**(t-30) - 1, 31 <= t <= 62.
struct WindowCounter {
    u32 a, mask;
    u64 at;
    QE_DEVICE WindowCounter(const i64 *row, u32 xu) : a((u32)row[ROW_A1] + threadIdx.y), mask((u32)row[ROW_MASK]) {
        at = 4 * mad_wide_u32(a, xu, (u64)row[ROW_WINDOW]);
    }
    QE_DEVICE void begin() {}
    QE_DEVICE void pass(f32) {}
    QE_DEVICE u32 add(u32 from, u32 j, u32 sum) const {
        return count_if_clear((u32)(mad_wide_u32(a, 4 * from + 4 * j, at) >> 32), mask, sum);
    }
};

// Number of pairs that differ once clamped to int8, four to a comparison: packing saturates, and the codes differ by 1
// at most, so by their lowest bits.
struct PackedCounter {
    Line first, second;
    QE_DEVICE PackedCounter(const i64 *row, u32 xu)
        : first(line_of(row, ROW_A1, xu)), second(line_of(row, ROW_A2, xu)) {}
    QE_DEVICE void begin() {}
    QE_DEVICE void pass(f32) {}
    QE_DEVICE u32 packed(const Line &line, u32 from, u32 j) const {
        return pack_saturated_i8(
            line.value(from + j), line.value(from + j + 1), line.value(from + j + 2), line.value(from + j + 3));
    }
    QE_DEVICE u32 four(u32 from, u32 j, u32 sum) const {
        u32 differ = (packed(first, from, j) ^ packed(second, from, j)) & 0x01010101u;
        return (u32)dot_i8(differ, 0x01010101u, (i32)sum);
    }
    QE_DEVICE u32 add(u32 from, u32 j, u32 sum) const {
        return sum + (clamp_i32(first.value(from + j), -128, 127) != clamp_i32(second.value(from + j), -128, 127));
    }
};

// float32 product rounded half to even against a line: the sum of (y1 - y2 - center + QE_SHIFT)**2. No conversions:
// x = high + low, both exact in float32 (high a multiple of 2**16, low < 2**17), so that their rounded sum is the
// rounded x; |v| <= 2**22, so that the sum with QE_MAGIC ends in the rounded v.
struct FloatCounter {
    Line line;
    f32 high, low, start, scale;
    u32 bias;
    QE_DEVICE FloatCounter(const i64 *row, u32 xu) : line(line_of(row, ROW_A2, xu)) {
        i32 x = (i32)(xu ^ 0x80000000u);
        high = i32_to_f32(x & ~0xffff);
        start = i32_to_f32(x & 0xffff);
        scale = bits_f32((u32)row[ROW_SCALE]);
        bias = QE_SHIFT - QE_MAGIC_BITS - (u32)row[ROW_CENTER];
        low = start;
    }
    QE_DEVICE void begin() { low = start; }
    QE_DEVICE void pass(f32 n) { low = add_rn_f32(low, n); }
    // bits of v + QE_MAGIC
    QE_DEVICE u32 product(u32 j) const {
        f32 x = add_rn_f32(high, add_rn_f32(low, (f32)j));
        return f32_bits(add_rn_f32(mul_rn_f32(x, scale), QE_MAGIC));
    }
    QE_DEVICE u32 add(u32 from, u32 j, u32 sum) const {
        u32 e = product(j) - (u32)line.value(from + j) + bias;
        return sum + e * e;
    }
};

template <class Counter> QE_DEVICE u32 add_four(const Counter &counter, u32 from, u32 j, u32 sum) {
    QE_UNROLL
    for (u32 i = 0; i < 4; ++i) sum = counter.add(from, j + i, sum);
    return sum;
}
QE_DEVICE u32 add_four(const PackedCounter &counter, u32 from, u32 j, u32 sum) { return counter.four(from, j, sum); }

// This thread's sum, modulo 2**32. `run` is a multiple of QE_RUN_STEP, 1024 at most.
template <class Counter> QE_DEVICE u32 count_run(Counter counter, const Run &mine, u32 run) {
    u32 sum = 0, from = 0;
    QE_NO_UNROLL
    for (u32 left = run; left > 0; left -= QE_RUN_STEP) {
        QE_UNROLL
        for (u32 j = 0; j < QE_RUN_STEP; j += 4) sum = add_four(counter, from, j, sum);
        counter.pass((f32)QE_RUN_STEP);
        from += QE_RUN_STEP;
    }
    if (mine.count < run) {
        counter.begin();
        sum = 0;
        QE_NO_UNROLL
        for (from = 0; from < mine.count; ++from) {
            sum = counter.add(from, 0, sum);
            counter.pass(1.0f);
        }
    }
    return sum;
}

template <class Counter> QE_DEVICE void count_rows(u64 rows, const i64 *table, u32 run, i64 *sums) {
    const i64 *row = row_of(rows, table, blockIdx.x);
    Run mine = run_of(row, run);
    i64 total = block_sum_i64((i32)count_run(Counter(row, mine.xu), mine, run));
    if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// ---- one block, one number: the sum over `run` accumulators of each of its threads that lie in the row
QE_BLOCK_KERNEL(256, exhaustive_floor)(u64 rows, const i64 *table, u32 run, i64 *sums) {
    count_rows<FloorCounter>(rows, table, run, sums);
}

QE_BLOCK_KERNEL(256, exhaustive_window)(u64 rows, const i64 *table, u32 run, i64 *sums) {
    count_rows<WindowCounter>(rows, table, run, sums);
}

QE_BLOCK_KERNEL(256, exhaustive_packed)(u64 rows, const i64 *table, u32 run, i64 *sums) {
    count_rows<PackedCounter>(rows, table, run, sums);
}

// Sums of the differences from the row's center and of their squares (each -1, 0 or 1), one behind the other.
QE_BLOCK_KERNEL(256, exhaustive_float)(u64 rows, const i64 *table, u32 run, i64 *sums) {
    const i64 *row = row_of(rows, table, blockIdx.x);
    Run mine = run_of(row, run);
    u32 sum = count_run(FloatCounter(row, mine.xu), mine, run) - mine.count * QE_SHIFT * QE_SHIFT;
    i64 squares = sum % (2 * QE_SHIFT), differences = (i32)sum >> 11;
    differences = block_sum_i64(differences);
    squares = block_sum_i64(squares);
    if (threadIdx.x == 0) {
        sums[2 * (u64)blockIdx.x] = differences;
        sums[2 * (u64)blockIdx.x + 1] = squares;
    }
}

// ---- which accumulators differ in blocks that were counted above: bit i of a block for its i-th accumulator
struct FloorPair {
    QE_DEVICE static bool differ(const i64 *row, u32 xu) {
        i32 low = (i32)row[ROW_LOW], high = (i32)row[ROW_HIGH];
        i32 y1 = clamp_i32(line_of(row, ROW_A1, xu).value(0), low, high);
        i32 y2 = clamp_i32(line_of(row, ROW_A2, xu).value(0), low, high);
        return y1 != y2;
    }
};
struct FloatPair {
    QE_DEVICE static bool differ(const i64 *row, u32 xu) {
        FloatCounter counter(row, xu);
        return counter.product(0) - QE_MAGIC_BITS != (u32)counter.line.value(0);
    }
};

template <class Pair> QE_DEVICE void mark_hits(u64 rows, const i64 *table, u32 run, const i64 *blocks, u32 *bits) {
    u64 block = (u64)blocks[blockIdx.x];
    const i64 *row = row_of(rows, table, block);
    u64 begin = (block - (u64)row[ROW_BLOCK]) * blockDim.x * run, size = (u64)row[ROW_SIZE];
    u32 *words = bits + (u64)blockIdx.x * (blockDim.x / QE_WARP) * run;
    for (u32 turn = 0; turn < run; ++turn) {
        u64 at = begin + turn * blockDim.x + threadIdx.x;
        u32 hits = warp_ballot(at < size && Pair::differ(row, (u32)row[ROW_FIRST] + (u32)at));
        if (lane_index() == 0) words[turn * (blockDim.x / QE_WARP) + threadIdx.x / QE_WARP] = hits;
    }
}

QE_BLOCK_KERNEL(256, exhaustive_floor_hits)(u64 rows, const i64 *table, u32 run, const i64 *blocks, u32 *bits) {
    mark_hits<FloorPair>(rows, table, run, blocks, bits);
}

QE_BLOCK_KERNEL(256, exhaustive_float_hits)(u64 rows, const i64 *table, u32 run, const i64 *blocks, u32 *bits) {
    mark_hits<FloatPair>(rows, table, run, blocks, bits);
}
