// Quantization and dequantization of flat arrays, and the check of codes: the kernels of each rule and layout.
//
// The unit is four elements in a row, as in units.cuh; which element has which parameters: affine_layouts.cuh.
#include "affine.cuh"
#include "affine_dequantize.cuh"
#include "affine_layouts.cuh"
#include "affine_quantize.cuh"
#include "compiler.cuh"
#include "units.cuh"

// What kernels take of a record, a layout and a quantization, and the same as one argument.
#define QE_RECORD_PARAMETERS i32 a0, i32 a1, i32 a2, i32 a3, i32 b0, i32 b1, i32 b2, i32 b3
#define QE_RECORD {{a0, a1, a2, a3}, {b0, b1, b2, b3}}
#define QE_COLUMNS_PARAMETERS u64 columns, u64 start, u64 stride, u64 advance
#define QE_COLUMNS {columns, start, stride, advance}
#define QE_RUNS_PARAMETERS \
    u64 length, u64 group, u64 groups, u64 rows, u64 start, u64 place_step, u64 row_step, u32 magic, i32 shift
#define QE_RUNS {length, group, groups, rows, start, place_step, row_step, magic, shift}
#define QE_QUANTIZED_PARAMETERS i32 bits, i32 step, i32 mode, i32 rounding, i32 qmin, i32 qmax
#define QE_QUANTIZED {bits, step, mode, rounding, qmin, qmax}

// ---- quantization
template <class Rule>
QE_DEVICE void quantize_tensor(u64 n, const typename Rule::X *x, void *out, i32 kind, i32 vectors, const Record &record,
                               const Quantized &q, u32 *flag) {
    typename Rule::X odd = 0;
    if (Rule::HOT && kind == QE_OUT_BYTE) {
        tensor_loop(Quantize<Rule, QE_OUT_BYTE>{x, out, kind, q}, n, vectors, Rule::load(record), odd);
    } else {
        tensor_loop(Quantize<Rule, -1>{x, out, kind, q}, n, vectors, Rule::load(record), odd);
    }
    if (is_odd(odd)) atomicOr(flag, 1u);
}
template <class Rule>
QE_DEVICE void quantize_columns(u64 n, const typename Rule::X *x, void *out, i32 kind, const i32 *table,
                                const Columns &p, const Quantized &q, u32 *flag) {
    typename Rule::X odd = 0;
    if (Rule::HOT && kind == QE_OUT_BYTE) {
        column_loop(Quantize<Rule, QE_OUT_BYTE>{x, out, kind, q}, n, table, p, odd);
    } else {
        column_loop(Quantize<Rule, -1>{x, out, kind, q}, n, table, p, odd);
    }
    if (is_odd(odd)) atomicOr(flag, 1u);
}
template <class Rule>
QE_DEVICE void quantize_runs(u64 n, const typename Rule::X *x, void *out, i32 kind, i32 vectors, const i32 *table,
                             const Runs &p, const Quantized &q, u32 *flag) {
    typename Rule::X odd = 0;
    run_loop(Quantize<Rule, -1>{x, out, kind, q}, n, vectors, table, p, odd);
    if (is_odd(odd)) atomicOr(flag, 1u);
}

QE_KERNEL(256, quantize_fused_tensor)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, QE_RECORD_PARAMETERS, QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_tensor<FusedRule>(n, x, out, kind, vectors, QE_RECORD, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_divide_tensor)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, QE_RECORD_PARAMETERS, QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_tensor<DivideRule>(n, x, out, kind, vectors, QE_RECORD, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_double_tensor)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, QE_RECORD_PARAMETERS, QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_tensor<DoubleRule>(n, x, out, kind, vectors, QE_RECORD, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_rounded_tensor)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, QE_RECORD_PARAMETERS, QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_tensor<RoundedRule>(n, x, out, kind, vectors, QE_RECORD, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_any_tensor_f32)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, QE_RECORD_PARAMETERS, QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_tensor<AnyRule<f32>>(n, x, out, kind, vectors, QE_RECORD, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_any_tensor_f64)(
    u64 n, const f64 *x, void *out, i32 kind, i32 vectors, QE_RECORD_PARAMETERS, QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_tensor<AnyRule<f64>>(n, x, out, kind, vectors, QE_RECORD, QE_QUANTIZED, flag);
}

QE_KERNEL(256, quantize_fused_columns)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, QE_COLUMNS_PARAMETERS, QE_QUANTIZED_PARAMETERS,
    u32 *flag) {
    quantize_columns<FusedRule>(n, x, out, kind, table, QE_COLUMNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_divide_columns)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, QE_COLUMNS_PARAMETERS, QE_QUANTIZED_PARAMETERS,
    u32 *flag) {
    quantize_columns<DivideRule>(n, x, out, kind, table, QE_COLUMNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_double_columns)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, QE_COLUMNS_PARAMETERS, QE_QUANTIZED_PARAMETERS,
    u32 *flag) {
    quantize_columns<DoubleRule>(n, x, out, kind, table, QE_COLUMNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_rounded_columns)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, QE_COLUMNS_PARAMETERS, QE_QUANTIZED_PARAMETERS,
    u32 *flag) {
    quantize_columns<RoundedRule>(n, x, out, kind, table, QE_COLUMNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_any_columns_f32)(
    u64 n, const f32 *x, void *out, i32 kind, const i32 *table, QE_COLUMNS_PARAMETERS, QE_QUANTIZED_PARAMETERS,
    u32 *flag) {
    quantize_columns<AnyRule<f32>>(n, x, out, kind, table, QE_COLUMNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_any_columns_f64)(
    u64 n, const f64 *x, void *out, i32 kind, const i32 *table, QE_COLUMNS_PARAMETERS, QE_QUANTIZED_PARAMETERS,
    u32 *flag) {
    quantize_columns<AnyRule<f64>>(n, x, out, kind, table, QE_COLUMNS, QE_QUANTIZED, flag);
}

QE_KERNEL(256, quantize_fused_runs)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS,
    QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_runs<FusedRule>(n, x, out, kind, vectors, table, QE_RUNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_divide_runs)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS,
    QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_runs<DivideRule>(n, x, out, kind, vectors, table, QE_RUNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_double_runs)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS,
    QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_runs<DoubleRule>(n, x, out, kind, vectors, table, QE_RUNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_rounded_runs)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS,
    QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_runs<RoundedRule>(n, x, out, kind, vectors, table, QE_RUNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_any_runs_f32)(
    u64 n, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS,
    QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_runs<AnyRule<f32>>(n, x, out, kind, vectors, table, QE_RUNS, QE_QUANTIZED, flag);
}
QE_KERNEL(256, quantize_any_runs_f64)(
    u64 n, const f64 *x, void *out, i32 kind, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS,
    QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_runs<AnyRule<f64>>(n, x, out, kind, vectors, table, QE_RUNS, QE_QUANTIZED, flag);
}

// ---- stochastic rounding
template <class T>
QE_DEVICE void quantize_draws(u64 n, u64 first_group, const T *x, void *out, i32 kind, i32 vectors, const i32 *table,
                              const Runs &p, u64 quarter_step, u64 quarter_row_step, const Quantized &q, u64 seed,
                              u32 *flag) {
    Draw<T> job = {x, out, kind, q, {0, 0, 0, 0}};
    // The stride is a multiple of 64 threads; p.step leads from behind one group of draws to the thread's next.
    u64 w = thread_number(), stride = thread_count(), loaded = ~0ull;
    Place place = place_of(p, w / (QE_QUARTER / 4) * QE_DRAW_GROUP + w % (QE_QUARTER / 4) * 4);
    AffineParameters c = {};
    T odd = 0;
    for (;; w += stride) {
        u64 group = w / (QE_QUARTER / 4), lane = w % (QE_QUARTER / 4) * 4, i = group * QE_DRAW_GROUP + lane;
        if (i >= n) break;
        u32x4 words[4];
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) {
            words[k] = philox_block((first_group + group) * QE_QUARTER + lane + k, (u32)seed, (u32)(seed >> 32));
        }
        QE_NO_UNROLL
        for (u32 quarter = 0; quarter < 4; ++quarter) {
            job.words = {words[0].x, words[1].x, words[2].x, words[3].x};
            if (i < n) run_unit(job, n, i, vectors, table, p, place, loaded, c, odd);
            i += QE_QUARTER;
            move_on(p, place, quarter_step, quarter_row_step);
            QE_UNROLL
            for (u32 k = 0; k < 4; ++k) words[k] = {words[k].y, words[k].z, words[k].w, 0};
        }
        move_on(p, place, p.step, p.row_step);
    }
    if (is_odd(odd)) atomicOr(flag, 1u);
}

QE_KERNEL(256, quantize_draws_f32)(
    u64 n, u64 first_group, const f32 *x, void *out, i32 kind, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS,
    u64 quarter_step, u64 quarter_row_step, u64 seed, QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_draws(n, first_group, x, out, kind, vectors, table, QE_RUNS, quarter_step, quarter_row_step, QE_QUANTIZED,
                   seed, flag);
}
QE_KERNEL(256, quantize_draws_f64)(
    u64 n, u64 first_group, const f64 *x, void *out, i32 kind, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS,
    u64 quarter_step, u64 quarter_row_step, u64 seed, QE_QUANTIZED_PARAMETERS, u32 *flag) {
    quantize_draws(n, first_group, x, out, kind, vectors, table, QE_RUNS, quarter_step, quarter_row_step, QE_QUANTIZED,
                   seed, flag);
}

// ---- dequantization
QE_KERNEL(256, dequantize_tensor_f32)(
    u64 n, const void *q, i32 kind, i32 bias, f32 *out, i32 vectors, f32 scale, f32 product, i32 zero_point, i32 rule) {
    if (kind == QE_OUT_BYTE && rule == QE_DEQUANTIZE_SUBTRACT) {
        DequantizeSingle<QE_DEQUANTIZE_SUBTRACT>::State none;
        DequantizeSingle<QE_DEQUANTIZE_SUBTRACT> job = {{q, QE_OUT_BYTE, bias}, out, rule};
        tensor_loop(job, n, vectors, {scale, product, zero_point}, none);
    } else {
        DequantizeSingle<-1>::State none;
        tensor_loop(DequantizeSingle<-1>{{q, kind, bias}, out, rule}, n, vectors, {scale, product, zero_point}, none);
    }
}
QE_KERNEL(256, dequantize_tensor_f64)(
    u64 n, const void *q, i32 kind, i32 bias, f64 *out, i32 vectors, f64 scale, f64 zero_point) {
    DequantizeDouble::State none;
    if (kind == QE_OUT_BYTE) {
        tensor_loop(DequantizeDouble{{q, QE_OUT_BYTE, bias}, out}, n, vectors, {scale, zero_point}, none);
    } else {
        tensor_loop(DequantizeDouble{{q, kind, bias}, out}, n, vectors, {scale, zero_point}, none);
    }
}
QE_KERNEL(256, dequantize_columns_f32)(
    u64 n, const void *q, i32 kind, i32 bias, f32 *out, const i32 *table, QE_COLUMNS_PARAMETERS, i32 rule) {
    if (kind == QE_OUT_BYTE && rule == QE_DEQUANTIZE_SUBTRACT) {
        DequantizeSingle<QE_DEQUANTIZE_SUBTRACT>::State none;
        DequantizeSingle<QE_DEQUANTIZE_SUBTRACT> job = {{q, QE_OUT_BYTE, bias}, out, rule};
        column_loop(job, n, table, QE_COLUMNS, none);
    } else {
        DequantizeSingle<-1>::State none;
        DequantizeSingle<-1> job = {{q, kind, bias}, out, rule};
        column_loop(job, n, table, QE_COLUMNS, none);
    }
}
QE_KERNEL(256, dequantize_columns_f64)(
    u64 n, const void *q, i32 kind, i32 bias, f64 *out, const i32 *table, QE_COLUMNS_PARAMETERS) {
    DequantizeDouble::State none;
    column_loop(DequantizeDouble{{q, kind, bias}, out}, n, table, QE_COLUMNS, none);
}
QE_KERNEL(256, dequantize_runs_f32)(
    u64 n, const void *q, i32 kind, i32 bias, f32 *out, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS, i32 rule) {
    DequantizeSingle<-1>::State none;
    run_loop(DequantizeSingle<-1>{{q, kind, bias}, out, rule}, n, vectors, table,
             QE_RUNS, none);
}
QE_KERNEL(256, dequantize_runs_f64)(
    u64 n, const void *q, i32 kind, i32 bias, f64 *out, i32 vectors, const i32 *table, QE_RUNS_PARAMETERS) {
    DequantizeDouble::State none;
    run_loop(DequantizeDouble{{q, kind, bias}, out}, n, vectors, table,
             QE_RUNS, none);
}

// ---- the least index of a code outside [low, high], in 16-byte units; `first` starts at n or above
template <class Q> QE_DEVICE bool is_outside(Q v, i64 low, i64 high) { return (i64)v < low || (i64)v > high; }
QE_DEVICE bool is_outside(u64 v, i64 low, i64 high) { return v >> 63 || (i64)v < low || (i64)v > high; }

template <class Q> QE_DEVICE void find_outside(u64 n, const Q *q, i32 vectors, i64 low, i64 high, u64 *first) {
    constexpr u32 V = 16 / sizeof(Q);
    u64 units = vectors ? n / V : 0, stride = thread_count(), found = n;
    for (u64 u = thread_number(); u < units && found == n; u += stride) {
        u32x4 v = load_u32x4(q + V * u);
        u64 half[2] = {(u64)v.y << 32 | v.x, (u64)v.w << 32 | v.z};
        QE_UNROLL
        for (u32 k = V; k-- > 0;) {
            if (is_outside((Q)(half[k / (V / 2)] >> (8 * sizeof(Q) * (k % (V / 2)))), low, high)) found = V * u + k;
        }
    }
    for (u64 i = V * units + thread_number(); i < n && found == n; i += stride) {
        if (is_outside(q[i], low, high)) found = i;
    }
    if (found < n) atomicMin(first, found);
}

// kind: the size of a code as a power of two, plus 4 where it is unsigned.
QE_KERNEL(256, codes_outside)(u64 n, const void *q, i32 kind, i32 vectors, i64 low, i64 high, u64 *first) {
    switch (kind) {
    case 0: find_outside(n, (const i8 *)q, vectors, low, high, first); break;
    case 1: find_outside(n, (const i16 *)q, vectors, low, high, first); break;
    case 2: find_outside(n, (const i32 *)q, vectors, low, high, first); break;
    case 3: find_outside(n, (const i64 *)q, vectors, low, high, first); break;
    case 4: find_outside(n, (const u8 *)q, vectors, low, high, first); break;
    case 5: find_outside(n, (const u16 *)q, vectors, low, high, first); break;
    case 6: find_outside(n, (const u32 *)q, vectors, low, high, first); break;
    default: find_outside(n, (const u64 *)q, vectors, low, high, first);
    }
}
