// Loops over flat arrays in the three layouts of parameters: one record for all elements, one a column, one a run.
//
// Element i of a tensor has the record that its layout says (codes.py, `Quantizer`). Records are words, written by the
// host (affine.py). A job loads a unit, four elements in a row, and finishes it with the numbers of its four elements.
#pragma once
#include "compiler.cuh"
#include "units.cuh"

// The numbers in a record's words.
QE_DEVICE f32 real(i32 word) { return bits_f32((u32)word); }
QE_DEVICE f64 real(i32 low, i32 high) { return bits_f64((u64)(u32)high << 32 | (u32)low); }

// One record for all: four units of a thread in flight.
template <class Job>
QE_DEVICE void tensor_loop(
    const Job &job, u64 n, i32 vectors, const typename Job::Numbers &c, typename Job::State &state) {
    u64 units = vectors ? n / 4 : 0, stride = thread_count(), u = thread_number();
    for (; Job::HOT && u + 3 * stride < units; u += 4 * stride) {
        typename Job::Unit v[4];
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) v[k] = job.read(4 * (u + k * stride));
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) job.write(4 * (u + k * stride), v[k], c, c, c, c, state);
    }
    QE_NO_UNROLL
    for (; u < units; u += stride) job.write(4 * u, job.read(4 * u), c, c, c, c, state);
    QE_NO_UNROLL
    for (u64 i = 4 * units + thread_number(); i < n; i += stride) job.one(i, c, state);
}

// A record a column, elements in rows of `columns`; element 0 stands in column `start`.
struct Columns {
    u64 columns, start;
    u64 stride;   // units; threads from this number on rest
    u64 advance;  // columns by which the first element moves on: 4 * stride modulo columns
};

template <class Job>
QE_DEVICE void column_loop(
    const Job &job, u64 n, const i32 *table, const Columns &p, typename Job::State &state) {
    u64 u = thread_number(), units = n / 4, rest = 4 * units + u;
    if (rest < n) job.one(rest, Job::load(table, (p.start + rest) % p.columns), state);
    if (u >= p.stride) return;
    u64 column = (p.start + 4 * u) % p.columns;
    typename Job::Numbers c[4] = {};
    do {
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) {
            u64 at = column + k;
            c[k] = Job::load(table, at < p.columns ? at : at % p.columns);
        }
        if (p.advance == 0) break;
        if (u < units) job.write(4 * u, job.read(4 * u), c[0], c[1], c[2], c[3], state);
        column += p.advance;
        if (column >= p.columns) column -= p.columns;
        u += p.stride;
    } while (u < units);
    for (; Job::HOT && u + p.stride < units; u += 2 * p.stride) {
        typename Job::Unit v = job.read(4 * u), w = job.read(4 * (u + p.stride));
        job.write(4 * u, v, c[0], c[1], c[2], c[3], state);
        job.write(4 * (u + p.stride), w, c[0], c[1], c[2], c[3], state);
    }
    QE_NO_UNROLL
    for (; u < units; u += p.stride) job.write(4 * u, job.read(4 * u), c[0], c[1], c[2], c[3], state);
}

// A record a run: rows of `length` elements, in runs of `group` (the last of a row may be shorter), `groups` a row, and
// records for `rows` rows, then again from the first. Where a thread stands is carried along.
struct Runs {
    u64 length, group, groups, rows;
    u64 start;     // element 0 stands this far behind the beginning of row 0
    u64 step;      // how far the place in a row moves on with the stride, and
    u64 row_step;  // how many rows: the stride divided by length, modulo rows
    u32 magic;     // x / group = x * magic >> shift for x < 2**31; shift 0: a division
    i32 shift;
};
struct Place {
    u64 at, row;
};

QE_DEVICE Place place_of(const Runs &p, u64 i) {
    u64 from = p.start + i;
    return {from % p.length, from / p.length % p.rows};
}
QE_DEVICE void move_on(const Runs &p, Place &place, u64 step, u64 row_step) {
    place.at += step;
    place.row += row_step;
    if (place.at >= p.length) {
        place.at -= p.length;
        ++place.row;
    }
    if (place.row >= p.rows) place.row -= p.rows;
}
QE_DEVICE u64 group_of(const Runs &p, u64 at) {
    if (p.groups == 1) return 0;
    return p.shift ? mul_wide_u32((u32)at, p.magic) >> p.shift : at / p.group;
}

// A unit, or its elements one by one where it ends a run or the array. `loaded` says whose numbers c are.
template <class Job>
QE_DEVICE void run_unit(const Job &job, u64 n, u64 i, i32 vectors, const i32 *table, const Runs &p, Place place,
                        u64 &loaded, typename Job::Numbers &c, typename Job::State &state) {
    u64 group = group_of(p, place.at), inside = place.at - group * p.group, record = place.row * p.groups + group;
    if (record != loaded) {
        c = Job::load(table, record);
        loaded = record;
    }
    if (vectors && inside + 4 <= p.group && place.at + 4 <= p.length && i + 4 <= n) {
        job.write(i, job.read(i), c, c, c, c, state);
        return;
    }
    QE_NO_UNROLL
    for (u32 k = 0;;) {
        job.one(i + k, c, state, k);
        if (++k == 4 || i + k >= n) break;
        bool ends = ++place.at == p.length;
        if (ends) {
            place.at = 0;
            if (++place.row == p.rows) place.row = 0;
        }
        if (++inside == p.group || ends) {
            inside = 0;
            loaded = place.row * p.groups + group_of(p, place.at);
            c = Job::load(table, loaded);
        }
    }
}

template <class Job>
QE_DEVICE void run_loop(
    const Job &job, u64 n, i32 vectors, const i32 *table, const Runs &p, typename Job::State &state) {
    u64 i = 4 * thread_number(), stride = 4 * thread_count(), loaded = ~0ull;
    Place place = place_of(p, i);
    typename Job::Numbers c = {};
    QE_NO_UNROLL
    for (; i < n; i += stride) {
        run_unit(job, n, i, vectors, table, p, place, loaded, c, state);
        move_on(p, place, p.step, p.row_step);
    }
}
