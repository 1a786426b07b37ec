// Instructions a clock of one multiprocessor: a full block of threads, each with eight independent chains of one
// instruction. Every operand is known at run time alone, and each result is the next operand, so that nothing folds.
//
// compiler.cuh stands before this text (device_rates.py puts it there).
QE_DEVICE u64 cycle_count() {
    u64 r;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(r));
    return r;
}
QE_DEVICE u64 nanosecond_count() {
    u64 r;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(r));
    return r;
}

#define QE_CHAINS 8
#define QE_REPEATS 8

template <class Op> QE_DEVICE void measure(u32 turns, u32 seed, u64 *cycles, u64 *nanoseconds, u32 *sink) {
    typename Op::Value v[QE_CHAINS];
    Op op(seed);
    QE_UNROLL
    for (u32 k = 0; k < QE_CHAINS; ++k) v[k] = (typename Op::Value)(seed * (threadIdx.x + 1) + k);
    __syncthreads();
    u64 time = nanosecond_count(), begin = cycle_count();
    u32 step = 0;
    QE_NO_UNROLL
    for (u32 left = turns; left > 0; --left) {
        QE_UNROLL
        for (u32 i = 0; i < QE_REPEATS; ++i) {
            QE_UNROLL
            for (u32 k = 0; k < QE_CHAINS; ++k) v[k] = op.apply(v[k], v[(k + 1) % QE_CHAINS], step + i * QE_CHAINS + k);
        }
        step += QE_REPEATS * QE_CHAINS;
    }
    __syncthreads();
    u64 end = cycle_count();
    u32 all = 0;
    QE_UNROLL
    for (u32 k = 0; k < QE_CHAINS; ++k) all ^= (u32)v[k];
    sink[thread_number()] = all;
    if (threadIdx.x == 0) {
        cycles[blockIdx.x] = end - begin;
        nanoseconds[blockIdx.x] = nanosecond_count() - time;
    }
}

// v: the chain's own value; w: the next chain's; u: the same number for all threads, another one each time.
#define QE_RATE(name, type, expression) \
    struct name##_op { \
        typedef type Value; \
        u32 a, b; \
        f32 x, y; \
        f64 p, q; \
        QE_DEVICE name##_op(u32 seed) \
            : a(seed * 2654435761u + threadIdx.x), b(seed + 1 + threadIdx.x % 24), x(u32_to_f32(a)), y(u32_to_f32(b)), \
              p(i32_to_f64((i32)a)), q(i32_to_f64((i32)b)) {} \
        QE_DEVICE type apply(type v, type w, u32 u) const { \
            (void)w, (void)u; \
            return expression; \
        } \
    }; \
    QE_KERNEL(1024, rate_##name)(u32 turns, u32 seed, u64 *cycles, u64 *nanoseconds, u32 *sink) { \
        measure<name##_op>(turns, seed, cycles, nanoseconds, sink); \
    }

QE_DEVICE u64 pair_of(u32 low, u32 high) { return (u64)high << 32 | low; }
QE_DEVICE u32 shift_one(u32 low, u32 high, u32 t) {
    u32 r;
    asm("{ .reg .b64 v; mov.b64 v, {%1, %2}; shr.s64 v, v, %3; cvt.u32.u64 %0, v; }"
        : "=r"(r)
        : "r"(low), "r"(high), "r"(t));
    return r;
}
QE_DEVICE u32 pack_one(u32 a, u32 b, u32 c) {
    u32 r;
    asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}

QE_RATE(iadd3, u32, v + w + a)
QE_RATE(lop3, u32, (v & w) ^ a)
QE_RATE(imad, u32, v * a + b)
QE_RATE(imad_wide, u64, mad_wide_u32((u32)v, a, v))
QE_RATE(imad_wide_uniform, u64, mad_wide_u32(a, u, v))  // with a sum of the uniform datapath for each
QE_RATE(imad_hi_uniform, u32, (u32)(mad_wide_u32(v, u, pair_of(a, b)) >> 32))
QE_RATE(shift_s64, u32, shift_one(v, a, b))
QE_RATE(sad, u32, sum_abs_difference((i32)v, (i32)a, w))
QE_RATE(pack_i8, u32, pack_one(v, a, w))
QE_RATE(dot_i8, u32, (u32)dot_i8(v, a, (i32)v))
QE_RATE(bit_count, u32, (u32)bit_count_u32(v) ^ v)
QE_RATE(f32_to_i32, u32, (u32)f32_to_i32_rn(bits_f32(v)))
QE_RATE(i32_to_f32, u32, f32_bits(i32_to_f32((i32)v)))
QE_RATE(add_f32, f32, add_rn_f32(v, x))
QE_RATE(mul_f32, f32, mul_rn_f32(v, x))
QE_RATE(fma_f32, f32, fma_rn_f32(v, x, y))
QE_RATE(add_f64, f64, add_rn_f64(v, p))
QE_RATE(fma_f64, f64, fma_rn_f64(v, p, q))

// Sums in shared memory, as histograms make them: 2048 cells, places that look drawn.
struct shared_add_op {
    typedef u32 Value;
    u32 a, *cells;
    QE_DEVICE shared_add_op(u32 seed) : a(seed * 8 + 5) {
        QE_SHARED u32 table[2048];
        cells = table;
        for (u32 i = threadIdx.x; i < 2048; i += blockDim.x) table[i] = 0;
    }
    QE_DEVICE u32 apply(u32 v, u32, u32) const {
        v = v * a + 12345u;
        atomicAdd(cells + (v >> 21), 1u);
        return v;
    }
};
QE_KERNEL(1024, rate_shared_add)(u32 turns, u32 seed, u64 *cycles, u64 *nanoseconds, u32 *sink) {
    measure<shared_add_op>(turns, seed, cycles, nanoseconds, sink);
}
