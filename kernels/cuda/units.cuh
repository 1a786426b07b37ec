// Units of four elements in a row: 16-byte loads (two of 8-byte elements), 4 to 32 bytes stored, at multiples of these.
#pragma once
#include "compiler.cuh"

// Types of results. All of them fit int32.
#define QE_OUT_BYTE 0  // int8, uint8
#define QE_OUT_HALF 1  // int16
#define QE_OUT_WORD 2  // int32
#define QE_OUT_LONG 3  // int64

struct Four { i32 x, y, z, w; };
template <class X> struct FourOf { X x, y, z, w; };

QE_DEVICE FourOf<i32> load_four(const i32 *p) {
    i32x4 v = load_i32x4(p);
    return {v.x, v.y, v.z, v.w};
}
QE_DEVICE FourOf<i64> load_four(const i64 *p) {
    i64x2 a = load_i64x2(p), b = load_i64x2(p + 2);
    return {a.x, a.y, b.x, b.y};
}
QE_DEVICE FourOf<f32> load_four(const f32 *p) {
    f32x4 v = load_f32x4(p);
    return {v.x, v.y, v.z, v.w};
}
QE_DEVICE FourOf<f64> load_four(const f64 *p) {
    f64x2 a = load_f64x2(p), b = load_f64x2(p + 2);
    return {a.x, a.y, b.x, b.y};
}

// OUT is a type of results, or -1: then `kind` says it, the same for all threads.
template <i32 OUT> QE_DEVICE void store_four(void *out, i32 kind, u64 first, Four y) {
    switch (OUT < 0 ? kind : OUT) {
    case QE_OUT_BYTE:
        store_u32((u8 *)out + first, pack_low_bytes((u32)y.x, (u32)y.y, (u32)y.z, (u32)y.w));
        break;
    case QE_OUT_HALF:
        store_u32x2((u16 *)out + first, {pack_low_halves((u32)y.x, (u32)y.y), pack_low_halves((u32)y.z, (u32)y.w)});
        break;
    case QE_OUT_WORD:
        store_u32x4((u32 *)out + first, {(u32)y.x, (u32)y.y, (u32)y.z, (u32)y.w});
        break;
    default:
        store_u32x4((u64 *)out + first, {(u32)y.x, (u32)(y.x >> 31), (u32)y.y, (u32)(y.y >> 31)});
        store_u32x4((u64 *)out + first + 2, {(u32)y.z, (u32)(y.z >> 31), (u32)y.w, (u32)(y.w >> 31)});
    }
}

QE_DEVICE void store_one(void *out, i32 kind, u64 at, i32 y) {
    switch (kind) {
    case QE_OUT_BYTE: ((u8 *)out)[at] = (u8)y; break;
    case QE_OUT_HALF: ((u16 *)out)[at] = (u16)y; break;
    case QE_OUT_WORD: ((i32 *)out)[at] = y; break;
    default: ((i64 *)out)[at] = y;
    }
}
