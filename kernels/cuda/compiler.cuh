// The only file that knows the compiler: nvcc, NVRTC (as CuPy calls it) or g++ through the host shim of the tests.
//
// Arithmetic is written with the names below and nothing else. On a device each is one PTX instruction with its
// rounding spelled out, so that no flag can contract it into an fma, and without .ftz: CuPy appends -ftz=true after
// every other option, which would flush subnormal float32 in plain C expressions (a * b, a < b, (double)a) and even
// in __fmul_rn. On the host the same names are plain C++ with PTX's meaning (build with -ffp-contract=off).
//
// Kernels use threadIdx, blockIdx, blockDim, gridDim, QE_SHARED, __syncthreads() and the warp functions at the end;
// on the host the shim serves them, one block at a time.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;
typedef float f32;
typedef double f64;

static_assert(sizeof(i32) == 4 && sizeof(i64) == 8 && sizeof(f32) == 4 && sizeof(f64) == 8, "sizes of the types");

#define QE_INT32_MIN (-2147483647 - 1)
#define QE_INT32_MAX 2147483647
#define QE_INT64_MIN (-9223372036854775807LL - 1)
#define QE_INT64_MAX 9223372036854775807LL
#define QE_FULL_WARP 0xffffffffu
#define QE_WARP 32

// Sixteen bytes, aligned: what one load or store of a thread moves at most.
struct alignas(16) i32x4 { i32 x, y, z, w; };
struct alignas(16) u32x4 { u32 x, y, z, w; };
struct alignas(16) f32x4 { f32 x, y, z, w; };
struct alignas(16) i64x2 { i64 x, y; };
struct alignas(16) f64x2 { f64 x, y; };
struct alignas(8) u32x2 { u32 x, y; };

#if defined(__CUDACC__)  // nvcc and NVRTC

#define QE_DEVICE __device__ __forceinline__
#define QE_SHARED __shared__
#define QE_UNROLL _Pragma("unroll")
#define QE_NO_UNROLL _Pragma("unroll 1")
// QE_KERNEL(threads of a block at most, name)(parameters) { ... }: threads know nothing of each other;
// QE_BLOCK_KERNEL: those of a block wait for each other (barriers, shuffles), and all of them reach each barrier.
// A room that defines QE_REGISTERS_FIRST gets the registers that its kernels ask for: ptxas spills a few otherwise, to
// keep room for one more block.
#ifdef QE_REGISTERS_FIRST
#define QE_KERNEL(threads, name) extern "C" __global__ void __launch_bounds__(threads, 1) name
#else
#define QE_KERNEL(threads, name) extern "C" __global__ void __launch_bounds__(threads) name
#endif
#define QE_BLOCK_KERNEL(threads, name) QE_KERNEL(threads, name)

// ---- bits
QE_DEVICE u32 f32_bits(f32 v) { return __float_as_uint(v); }
QE_DEVICE f32 bits_f32(u32 v) { return __uint_as_float(v); }
QE_DEVICE u64 f64_bits(f64 v) { return (u64)__double_as_longlong(v); }
QE_DEVICE f64 bits_f64(u64 v) { return __longlong_as_double((i64)v); }
QE_DEVICE i32 leading_zeros_u32(u32 v) { return __clz((i32)v); }   // 32 for 0
QE_DEVICE i32 bit_count_u32(u32 v) { return __popc(v); }
// v >> t, and 0 from t = 32 on: what the instruction does.
QE_DEVICE u32 shift_right_clamped_u32(u32 v, u32 t) {
    u32 r;
    asm("shr.u32 %0, %1, %2;" : "=r"(r) : "r"(v), "r"(t));
    return r;
}
// The bits of b where `mask` is 1, those of a elsewhere: one instruction, whatever is known of the bits.
QE_DEVICE u32 bit_select_u32(u32 mask, u32 a, u32 b) {
    u32 r;
    asm("lop3.b32 %0, %1, %2, %3, 0xd8;" : "=r"(r) : "r"(a), "r"(b), "r"(mask));
    return r;
}
QE_DEVICE u32 funnel_right_u32(u32 low, u32 high, u32 t) { return __funnelshift_r(low, high, t); }  // by t mod 32

// ---- integers
QE_DEVICE i64 mul_wide_i32(i32 a, i32 b) {
    i64 r;
    asm("mul.wide.s32 %0, %1, %2;" : "=l"(r) : "r"(a), "r"(b));
    return r;
}
QE_DEVICE u64 mul_wide_u32(u32 a, u32 b) {
    u64 r;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(r) : "r"(a), "r"(b));
    return r;
}
// a * b + c modulo 2**64, in one instruction even where a and b are uniform (ptxas splits mad.wide there).
QE_DEVICE u64 mad_wide_u32(u32 a, u32 b, u64 c) {
    u32 low, high;
    asm("mad.lo.cc.u32 %0, %2, %3, %4; madc.hi.u32 %1, %2, %3, %5;"
        : "=r"(low), "=r"(high)
        : "r"(a), "r"(b), "r"((u32)c), "r"((u32)(c >> 32)));
    return ((u64)high << 32) | low;
}
QE_DEVICE i64 mad_wide_i32(i32 a, i32 b, i64 c) {
    i64 r;
    asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(r) : "r"(a), "r"(b), "l"(c));
    return r;
}
// The same, in one instruction even where the product is used twice: ptxas multiplies once there, and adds in two.
QE_DEVICE i64 fused_mad_wide_i32(i32 a, i32 b, i64 c) {
    u32 low, high;
    asm("mad.lo.cc.s32 %0, %2, %3, %4; madc.hi.s32 %1, %2, %3, %5;"
        : "=r"(low), "=r"(high)
        : "r"(a), "r"(b), "r"((u32)c), "r"((u32)((u64)c >> 32)));
    return (i64)((u64)high << 32 | low);
}
// c + d, and 1 more where a + b leaves 32 bits.
QE_DEVICE u32 add_carry_of_u32(u32 a, u32 b, u32 c, u32 d) {
    u32 r;
    asm("{ .reg .u32 t; add.cc.u32 t, %1, %2; addc.u32 %0, %3, %4; }" : "=r"(r) : "r"(a), "r"(b), "r"(c), "r"(d));
    return r;
}
QE_DEVICE u32 mul_high_u32(u32 a, u32 b) { return __umulhi(a, b); }
// Bytes of the pair (a low, b high) chosen by the four low nibbles of `selector`.
QE_DEVICE u32 byte_permute(u32 a, u32 b, u32 selector) { return __byte_perm(a, b, selector); }
// Four int32 saturated to a byte and packed, the first lowest.
QE_DEVICE u32 pack_saturated_i8(i32 a, i32 b, i32 c, i32 d) {
    u32 r;
    asm("{ .reg .b32 h; cvt.pack.sat.s8.s32.b32 h, %4, %3, 0; cvt.pack.sat.s8.s32.b32 %0, %2, %1, h; }"
        : "=r"(r) : "r"(a), "r"(b), "r"(c), "r"(d));
    return r;
}
QE_DEVICE u32 sum_abs_difference(i32 a, i32 b, u32 c) { return __sad(a, b, c); }  // |a - b| + c, mod 2**32
QE_DEVICE i32 dot_i8(u32 a, u32 b, i32 c) { return __dp4a((i32)a, (i32)b, c); }   // c + sum of four int8 products
// count + 1 where v & mask is 0, in two instructions (a C expression takes a third, to move the sum).
QE_DEVICE u32 count_if_clear(u32 v, u32 mask, u32 count) {
    asm("{ .reg .pred p; .reg .u32 r; and.b32 r, %1, %2; setp.eq.u32 p, r, 0; @p add.u32 %0, %0, 1; }"
        : "+r"(count) : "r"(v), "r"(mask));
    return count;
}

// ---- float32 and float64
#define QE_UNARY(name, instruction, to, to_code, from, from_code) \
    QE_DEVICE to name(from a) { \
        to r; \
        asm(instruction " %0, %1;" : "=" to_code(r) : from_code(a)); \
        return r; \
    }
#define QE_BINARY(name, instruction, type, code) \
    QE_DEVICE type name(type a, type b) { \
        type r; \
        asm(instruction " %0, %1, %2;" : "=" code(r) : code(a), code(b)); \
        return r; \
    }
#define QE_TERNARY(name, instruction, type, code) \
    QE_DEVICE type name(type a, type b, type c) { \
        type r; \
        asm(instruction " %0, %1, %2, %3;" : "=" code(r) : code(a), code(b), code(c)); \
        return r; \
    }
#define QE_COMPARE(name, comparison, type, code) \
    QE_DEVICE bool name(type a, type b) { \
        i32 r; \
        asm("{ .reg .pred p; " comparison " p, %1, %2; selp.s32 %0, 1, 0, p; }" : "=r"(r) : code(a), code(b)); \
        return r != 0; \
    }

QE_BINARY(mul_rn_f32, "mul.rn.f32", f32, "f")
QE_BINARY(add_rn_f32, "add.rn.f32", f32, "f")
QE_BINARY(sub_rn_f32, "sub.rn.f32", f32, "f")
QE_BINARY(div_rn_f32, "div.rn.f32", f32, "f")
QE_TERNARY(fma_rn_f32, "fma.rn.f32", f32, "f")
QE_BINARY(min_f32, "min.f32", f32, "f")  // of a NaN and a number the number; -0 below +0
QE_BINARY(max_f32, "max.f32", f32, "f")
QE_COMPARE(lt_f32, "setp.lt.f32", f32, "f")  // false with NaN
QE_COMPARE(le_f32, "setp.le.f32", f32, "f")
QE_COMPARE(eq_f32, "setp.eq.f32", f32, "f")
QE_UNARY(rint_f32, "cvt.rni.f32.f32", f32, "f", f32, "f")
QE_UNARY(trunc_f32, "cvt.rzi.f32.f32", f32, "f", f32, "f")
QE_UNARY(floor_f32, "cvt.rmi.f32.f32", f32, "f", f32, "f")
QE_UNARY(ceil_f32, "cvt.rpi.f32.f32", f32, "f", f32, "f")
QE_UNARY(i32_to_f32, "cvt.rn.f32.s32", f32, "f", i32, "r")
QE_UNARY(u32_to_f32, "cvt.rn.f32.u32", f32, "f", u32, "r")
QE_UNARY(i64_to_f32, "cvt.rn.f32.s64", f32, "f", i64, "l")
QE_UNARY(f32_to_i32_rn, "cvt.rni.s32.f32", i32, "r", f32, "f")  // saturates; NaN gives 0
QE_UNARY(f32_to_i32_rz, "cvt.rzi.s32.f32", i32, "r", f32, "f")
QE_UNARY(f32_to_f64, "cvt.f64.f32", f64, "d", f32, "f")
QE_UNARY(f64_to_f32, "cvt.rn.f32.f64", f32, "f", f64, "d")

QE_BINARY(mul_rn_f64, "mul.rn.f64", f64, "d")
QE_BINARY(add_rn_f64, "add.rn.f64", f64, "d")
QE_BINARY(sub_rn_f64, "sub.rn.f64", f64, "d")
QE_BINARY(div_rn_f64, "div.rn.f64", f64, "d")
QE_TERNARY(fma_rn_f64, "fma.rn.f64", f64, "d")
QE_BINARY(min_f64, "min.f64", f64, "d")
QE_BINARY(max_f64, "max.f64", f64, "d")
QE_COMPARE(lt_f64, "setp.lt.f64", f64, "d")
QE_COMPARE(le_f64, "setp.le.f64", f64, "d")
QE_COMPARE(eq_f64, "setp.eq.f64", f64, "d")
QE_UNARY(rint_f64, "cvt.rni.f64.f64", f64, "d", f64, "d")
QE_UNARY(trunc_f64, "cvt.rzi.f64.f64", f64, "d", f64, "d")
QE_UNARY(floor_f64, "cvt.rmi.f64.f64", f64, "d", f64, "d")
QE_UNARY(ceil_f64, "cvt.rpi.f64.f64", f64, "d", f64, "d")
QE_UNARY(i32_to_f64, "cvt.rn.f64.s32", f64, "d", i32, "r")
QE_UNARY(u32_to_f64, "cvt.rn.f64.u32", f64, "d", u32, "r")
QE_UNARY(i64_to_f64, "cvt.rn.f64.s64", f64, "d", i64, "l")
QE_UNARY(u64_to_f64, "cvt.rn.f64.u64", f64, "d", u64, "l")
QE_UNARY(f64_to_i32_rn, "cvt.rni.s32.f64", i32, "r", f64, "d")
QE_UNARY(f64_to_i32_rz, "cvt.rzi.s32.f64", i32, "r", f64, "d")
QE_UNARY(f64_to_i64_rn, "cvt.rni.s64.f64", i64, "l", f64, "d")  // saturates; NaN: use only on numbers
QE_UNARY(f64_to_i64_rz, "cvt.rzi.s64.f64", i64, "l", f64, "d")

// ---- memory: read once, written once (evict first)
QE_DEVICE i32x4 load_i32x4(const i32 *p) {
    int4 v = __ldcs((const int4 *)p);
    return {v.x, v.y, v.z, v.w};
}
QE_DEVICE f32x4 load_f32x4(const f32 *p) {
    float4 v = __ldcs((const float4 *)p);
    return {v.x, v.y, v.z, v.w};
}
QE_DEVICE i64x2 load_i64x2(const i64 *p) {
    longlong2 v = __ldcs((const longlong2 *)p);
    return {v.x, v.y};
}
QE_DEVICE f64x2 load_f64x2(const f64 *p) {
    double2 v = __ldcs((const double2 *)p);
    return {v.x, v.y};
}
QE_DEVICE u32x4 load_u32x4(const void *p) {
    uint4 v = __ldcs((const uint4 *)p);
    return {v.x, v.y, v.z, v.w};
}
QE_DEVICE u32x2 load_u32x2(const void *p) {
    uint2 v = __ldcs((const uint2 *)p);
    return {v.x, v.y};
}
QE_DEVICE u32 load_u32(const void *p) { return __ldcs((const u32 *)p); }
QE_DEVICE i32x4 cached_i32x4(const i32 *p) {  // read again soon: tables
    int4 v = __ldg((const int4 *)p);
    return {v.x, v.y, v.z, v.w};
}
QE_DEVICE i32 cached_i32(const i32 *p) { return __ldg(p); }
QE_DEVICE f64 cached_f64(const f64 *p) { return __ldg(p); }
QE_DEVICE void store_u32(void *p, u32 v) { __stcs((u32 *)p, v); }
QE_DEVICE void store_u32x2(void *p, u32x2 v) { __stcs((uint2 *)p, make_uint2(v.x, v.y)); }
QE_DEVICE void store_u32x4(void *p, u32x4 v) { __stcs((uint4 *)p, make_uint4(v.x, v.y, v.z, v.w)); }

// ---- a warp, all of its 32 threads taking part
QE_DEVICE u32 shuffle_xor_u32(u32 v, i32 mask) { return __shfl_xor_sync(QE_FULL_WARP, v, mask); }
QE_DEVICE u32 warp_ballot(bool v) { return __ballot_sync(QE_FULL_WARP, v); }
QE_DEVICE u32 lane_index() { return threadIdx.x & 31u; }

#else  // g++, through the shim

#define QE_DEVICE inline
#define QE_SHARED static
#define QE_UNROLL
#define QE_NO_UNROLL
#define QE_KERNEL(threads, name) extern "C" void name
#define QE_BLOCK_KERNEL(threads, name) extern "C" void name

// What the shim serves. Functions that wait for the other threads of a block or warp run on fibers.
struct ThreadIndex { u32 x, y, z; };
extern ThreadIndex threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads();
const u64 *host_publish(u64 value);  // the values of all 32 threads of the own warp

template <class To, class From> inline To host_bits(From v) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To r;
    __builtin_memcpy(&r, &v, sizeof r);
    return r;
}
QE_DEVICE u32 f32_bits(f32 v) { return host_bits<u32>(v); }
QE_DEVICE f32 bits_f32(u32 v) { return host_bits<f32>(v); }
QE_DEVICE u64 f64_bits(f64 v) { return host_bits<u64>(v); }
QE_DEVICE f64 bits_f64(u64 v) { return host_bits<f64>(v); }
QE_DEVICE i32 leading_zeros_u32(u32 v) { return v ? __builtin_clz(v) : 32; }
QE_DEVICE i32 bit_count_u32(u32 v) { return __builtin_popcount(v); }
QE_DEVICE u32 shift_right_clamped_u32(u32 v, u32 t) { return t < 32 ? v >> t : 0; }
QE_DEVICE u32 bit_select_u32(u32 mask, u32 a, u32 b) { return (a & ~mask) | (b & mask); }
QE_DEVICE u32 funnel_right_u32(u32 low, u32 high, u32 t) { return (u32)((((u64)high << 32) | low) >> (t & 31)); }

QE_DEVICE i64 mul_wide_i32(i32 a, i32 b) { return (i64)a * (i64)b; }
QE_DEVICE u64 mul_wide_u32(u32 a, u32 b) { return (u64)a * (u64)b; }
QE_DEVICE u64 mad_wide_u32(u32 a, u32 b, u64 c) { return (u64)a * (u64)b + c; }
QE_DEVICE i64 mad_wide_i32(i32 a, i32 b, i64 c) { return (i64)a * (i64)b + c; }
QE_DEVICE i64 fused_mad_wide_i32(i32 a, i32 b, i64 c) { return (i64)a * (i64)b + c; }
QE_DEVICE u32 add_carry_of_u32(u32 a, u32 b, u32 c, u32 d) { return c + d + (a + b < a); }
QE_DEVICE u32 mul_high_u32(u32 a, u32 b) { return (u32)(((u64)a * (u64)b) >> 32); }
QE_DEVICE u32 byte_permute(u32 a, u32 b, u32 selector) {
    u64 pair = ((u64)b << 32) | a;
    u32 r = 0;
    for (u32 k = 0; k < 4; ++k) r |= (u32)((pair >> (8 * ((selector >> (4 * k)) & 7))) & 0xff) << (8 * k);
    return r;
}
inline u32 host_byte(i32 v, i32 low, i32 high) { return (u32)(v < low ? low : v > high ? high : v) & 0xff; }
QE_DEVICE u32 pack_saturated_i8(i32 a, i32 b, i32 c, i32 d) {
    return host_byte(a, -128, 127) | host_byte(b, -128, 127) << 8 | host_byte(c, -128, 127) << 16 |
           host_byte(d, -128, 127) << 24;
}
QE_DEVICE u32 sum_abs_difference(i32 a, i32 b, u32 c) {
    return (a < b ? (u32)b - (u32)a : (u32)a - (u32)b) + c;
}
QE_DEVICE i32 dot_i8(u32 a, u32 b, i32 c) {
    u32 r = (u32)c;
    for (u32 k = 0; k < 32; k += 8) r += (u32)((i32)(i8)(a >> k) * (i32)(i8)(b >> k));
    return (i32)r;
}

QE_DEVICE u32 count_if_clear(u32 v, u32 mask, u32 count) { return count + ((v & mask) == 0); }

QE_DEVICE f32 mul_rn_f32(f32 a, f32 b) { return a * b; }
QE_DEVICE f32 add_rn_f32(f32 a, f32 b) { return a + b; }
QE_DEVICE f32 sub_rn_f32(f32 a, f32 b) { return a - b; }
QE_DEVICE f32 div_rn_f32(f32 a, f32 b) { return a / b; }
QE_DEVICE f32 fma_rn_f32(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }
QE_DEVICE bool lt_f32(f32 a, f32 b) { return a < b; }
QE_DEVICE bool le_f32(f32 a, f32 b) { return a <= b; }
QE_DEVICE bool eq_f32(f32 a, f32 b) { return a == b; }
// PTX: of a NaN and a number the number; -0 is below +0.
template <class T> inline T host_min(T a, T b) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return __builtin_signbit(a) ? a : b;
    return a < b ? a : b;
}
template <class T> inline T host_max(T a, T b) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return __builtin_signbit(a) ? b : a;
    return a > b ? a : b;
}
// PTX: conversions saturate, NaN gives 0. `v` is a whole number, or infinite, or NaN.
template <class I> inline I host_saturated(f64 v, f64 bound, I low, I high) {
    if (v != v) return 0;
    if (v >= bound) return high;
    if (v < -bound) return low;
    return (I)v;
}
inline i32 host_i32(f64 v) { return host_saturated<i32>(v, 2147483648.0, QE_INT32_MIN, QE_INT32_MAX); }
inline i64 host_i64(f64 v) { return host_saturated<i64>(v, 9223372036854775808.0, QE_INT64_MIN, QE_INT64_MAX); }
QE_DEVICE f32 min_f32(f32 a, f32 b) { return host_min(a, b); }
QE_DEVICE f32 max_f32(f32 a, f32 b) { return host_max(a, b); }
QE_DEVICE f32 rint_f32(f32 a) { return __builtin_rintf(a); }
QE_DEVICE f32 trunc_f32(f32 a) { return __builtin_truncf(a); }
QE_DEVICE f32 floor_f32(f32 a) { return __builtin_floorf(a); }
QE_DEVICE f32 ceil_f32(f32 a) { return __builtin_ceilf(a); }
QE_DEVICE f32 i32_to_f32(i32 a) { return (f32)a; }
QE_DEVICE f32 u32_to_f32(u32 a) { return (f32)a; }
QE_DEVICE f32 i64_to_f32(i64 a) { return (f32)a; }
QE_DEVICE i32 f32_to_i32_rn(f32 a) { return host_i32((f64)__builtin_rintf(a)); }
QE_DEVICE i32 f32_to_i32_rz(f32 a) { return host_i32((f64)__builtin_truncf(a)); }
QE_DEVICE f64 f32_to_f64(f32 a) { return (f64)a; }
QE_DEVICE f32 f64_to_f32(f64 a) { return (f32)a; }

QE_DEVICE f64 mul_rn_f64(f64 a, f64 b) { return a * b; }
QE_DEVICE f64 add_rn_f64(f64 a, f64 b) { return a + b; }
QE_DEVICE f64 sub_rn_f64(f64 a, f64 b) { return a - b; }
QE_DEVICE f64 div_rn_f64(f64 a, f64 b) { return a / b; }
QE_DEVICE f64 fma_rn_f64(f64 a, f64 b, f64 c) { return __builtin_fma(a, b, c); }
QE_DEVICE f64 min_f64(f64 a, f64 b) { return host_min(a, b); }
QE_DEVICE f64 max_f64(f64 a, f64 b) { return host_max(a, b); }
QE_DEVICE bool lt_f64(f64 a, f64 b) { return a < b; }
QE_DEVICE bool le_f64(f64 a, f64 b) { return a <= b; }
QE_DEVICE bool eq_f64(f64 a, f64 b) { return a == b; }
QE_DEVICE f64 rint_f64(f64 a) { return __builtin_rint(a); }
QE_DEVICE f64 trunc_f64(f64 a) { return __builtin_trunc(a); }
QE_DEVICE f64 floor_f64(f64 a) { return __builtin_floor(a); }
QE_DEVICE f64 ceil_f64(f64 a) { return __builtin_ceil(a); }
QE_DEVICE f64 i32_to_f64(i32 a) { return (f64)a; }
QE_DEVICE f64 u32_to_f64(u32 a) { return (f64)a; }
QE_DEVICE f64 i64_to_f64(i64 a) { return (f64)a; }
QE_DEVICE f64 u64_to_f64(u64 a) { return (f64)a; }
QE_DEVICE i32 f64_to_i32_rn(f64 a) { return host_i32(__builtin_rint(a)); }
QE_DEVICE i32 f64_to_i32_rz(f64 a) { return host_i32(__builtin_trunc(a)); }
QE_DEVICE i64 f64_to_i64_rn(f64 a) { return host_i64(__builtin_rint(a)); }
QE_DEVICE i64 f64_to_i64_rz(f64 a) { return host_i64(__builtin_trunc(a)); }

// Dereferenced as they are: -fsanitize=alignment reports a pointer that is not a multiple of 16.
QE_DEVICE i32x4 load_i32x4(const i32 *p) { return *(const i32x4 *)p; }
QE_DEVICE f32x4 load_f32x4(const f32 *p) { return *(const f32x4 *)p; }
QE_DEVICE i64x2 load_i64x2(const i64 *p) { return *(const i64x2 *)p; }
QE_DEVICE f64x2 load_f64x2(const f64 *p) { return *(const f64x2 *)p; }
QE_DEVICE u32x4 load_u32x4(const void *p) { return *(const u32x4 *)p; }
QE_DEVICE u32x2 load_u32x2(const void *p) { return *(const u32x2 *)p; }
QE_DEVICE u32 load_u32(const void *p) { return *(const u32 *)p; }
QE_DEVICE i32x4 cached_i32x4(const i32 *p) { return *(const i32x4 *)p; }
QE_DEVICE i32 cached_i32(const i32 *p) { return *p; }
QE_DEVICE f64 cached_f64(const f64 *p) { return *p; }
QE_DEVICE void store_u32(void *p, u32 v) { *(u32 *)p = v; }
QE_DEVICE void store_u32x2(void *p, u32x2 v) { *(u32x2 *)p = v; }
QE_DEVICE void store_u32x4(void *p, u32x4 v) { *(u32x4 *)p = v; }

QE_DEVICE u32 lane_index() { return threadIdx.x & 31u; }
QE_DEVICE u32 shuffle_xor_u32(u32 v, i32 mask) { return (u32)host_publish(v)[lane_index() ^ (u32)mask]; }
QE_DEVICE u32 warp_ballot(bool v) {
    const u64 *values = host_publish(v);
    u32 r = 0;
    for (u32 lane = 0; lane < 32; ++lane) r |= (u32)(values[lane] != 0) << lane;
    return r;
}
QE_DEVICE u64 atomicAdd(u64 *p, u64 v) { u64 old = *p; *p = old + v; return old; }
QE_DEVICE u32 atomicAdd(u32 *p, u32 v) { u32 old = *p; *p = old + v; return old; }
QE_DEVICE u32 atomicOr(u32 *p, u32 v) { u32 old = *p; *p = old | v; return old; }
QE_DEVICE u64 atomicMin(u64 *p, u64 v) { u64 old = *p; *p = v < old ? v : old; return old; }
QE_DEVICE u64 atomicMax(u64 *p, u64 v) { u64 old = *p; *p = v > old ? v : old; return old; }
QE_DEVICE u32 atomicMin(u32 *p, u32 v) { u32 old = *p; *p = v < old ? v : old; return old; }
QE_DEVICE u32 atomicMax(u32 *p, u32 v) { u32 old = *p; *p = v > old ? v : old; return old; }

#endif

// ---- the same text for every compiler
QE_DEVICE u64 shuffle_xor_u64(u64 v, i32 mask) {
    u64 high = shuffle_xor_u32((u32)(v >> 32), mask);
    return high << 32 | shuffle_xor_u32((u32)v, mask);
}
QE_DEVICE i64 shuffle_xor_i64(i64 v, i32 mask) { return (i64)shuffle_xor_u64((u64)v, mask); }
QE_DEVICE f64 shuffle_xor_f64(f64 v, i32 mask) { return bits_f64(shuffle_xor_u64(f64_bits(v), mask)); }

QE_DEVICE f32 abs_f32(f32 v) { return bits_f32(f32_bits(v) & 0x7fffffffu); }
QE_DEVICE f64 abs_f64(f64 v) { return bits_f64(f64_bits(v) & 0x7fffffffffffffffull); }
QE_DEVICE f32 neg_f32(f32 v) { return bits_f32(f32_bits(v) ^ 0x80000000u); }
QE_DEVICE f64 neg_f64(f64 v) { return bits_f64(f64_bits(v) ^ 0x8000000000000000ull); }
QE_DEVICE f32 copysign_f32(f32 v, f32 sign) {
    return bits_f32((f32_bits(v) & 0x7fffffffu) | (f32_bits(sign) & 0x80000000u));
}
QE_DEVICE f64 copysign_f64(f64 v, f64 sign) {
    return bits_f64((f64_bits(v) & 0x7fffffffffffffffull) | (f64_bits(sign) & 0x8000000000000000ull));
}
QE_DEVICE bool finite_f32(f32 v) { return (f32_bits(v) & 0x7fffffffu) < 0x7f800000u; }
QE_DEVICE bool finite_f64(f64 v) { return (f64_bits(v) & 0x7fffffffffffffffull) < 0x7ff0000000000000ull; }

QE_DEVICE i32 min_i32(i32 a, i32 b) { return a < b ? a : b; }
QE_DEVICE i32 max_i32(i32 a, i32 b) { return a > b ? a : b; }
QE_DEVICE i64 min_i64(i64 a, i64 b) { return a < b ? a : b; }
QE_DEVICE i64 max_i64(i64 a, i64 b) { return a > b ? a : b; }
QE_DEVICE i32 clamp_i32(i32 v, i32 low, i32 high) { return min_i32(max_i32(v, low), high); }
QE_DEVICE i64 clamp_i64(i64 v, i64 low, i64 high) { return min_i64(max_i64(v, low), high); }
// Signed sums and products modulo 2**64 (2**32): overflow is defined for unsigned numbers alone.
QE_DEVICE i64 add_wrap_i64(i64 a, i64 b) { return (i64)((u64)a + (u64)b); }
QE_DEVICE i64 mul_wrap_i64(i64 a, i64 b) { return (i64)((u64)a * (u64)b); }
QE_DEVICE i32 add_wrap_i32(i32 a, i32 b) { return (i32)((u32)a + (u32)b); }
// floor(v / 2**t) and v * 2**t modulo 2**64, 0 <= t <= 63: PTX clamps larger shifts, x86 masks them, C++ forbids them.
QE_DEVICE i64 shift_right_i64(i64 v, i32 t) { return v >> t; }
QE_DEVICE i64 shift_left_i64(i64 v, i32 t) { return (i64)((u64)v << t); }
// The low bytes of four integers (the low halves of two), the first lowest.
QE_DEVICE u32 pack_low_bytes(u32 a, u32 b, u32 c, u32 d) {
    return byte_permute(byte_permute(a, b, 0x0040), byte_permute(c, d, 0x0040), 0x5410);
}
QE_DEVICE u32 pack_low_halves(u32 a, u32 b) { return byte_permute(a, b, 0x5410); }

// This thread's number in the grid (1-D launches), and the number of threads: both in 64 bits.
QE_DEVICE u64 thread_number() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
QE_DEVICE u64 thread_count() { return (u64)gridDim.x * blockDim.x; }
