// Rules of dequantization, and what they do to a unit of codes.
#pragma once
#include "affine.cuh"
#include "affine_layouts.cuh"
#include "compiler.cuh"
#include "units.cuh"

// Codes are bytes, halves or words; with 2**7 (2**15) added, signed bytes (halves) are unsigned.
#define QE_DEQUANTIZE_WIDE 4  // as QE_DEQUANTIZE_SUBTRACT, where q - z may leave int32
struct Codes {
    const void *q;
    i32 kind, bias;

    QE_DEVICE u32x4 read(u64 first) const {
        if (kind == QE_OUT_BYTE) return {load_u32((const u8 *)q + first), 0, 0, 0};
        if (kind == QE_OUT_WORD) return load_u32x4((const u32 *)q + first);
        u32x2 v = load_u32x2((const u16 *)q + first);
        return {v.x, v.y, 0, 0};
    }
    QE_DEVICE Four unpacked(const u32x4 &v) const {
        if (kind == QE_OUT_WORD) return {(i32)v.x, (i32)v.y, (i32)v.z, (i32)v.w};
        if (kind == QE_OUT_BYTE) {
            u32 w = v.x ^ (u32)bias * 0x01010101u;
            return {(i32)byte_permute(w, 0, 0x4440) - bias, (i32)byte_permute(w, 0, 0x4441) - bias,
                    (i32)byte_permute(w, 0, 0x4442) - bias, (i32)byte_permute(w, 0, 0x4443) - bias};
        }
        u32 a = v.x ^ (u32)bias * 0x00010001u, b = v.y ^ (u32)bias * 0x00010001u;
        return {(i32)(a & 0xffff) - bias, (i32)(a >> 16) - bias, (i32)(b & 0xffff) - bias, (i32)(b >> 16) - bias};
    }
    QE_DEVICE i32 one(u64 at) const {
        if (kind == QE_OUT_WORD) return ((const i32 *)q)[at];
        if (kind == QE_OUT_BYTE) return (i32)(((const u8 *)q)[at] ^ (u32)bias) - bias;
        return (i32)(((const u16 *)q)[at] ^ (u32)bias) - bias;
    }
};

// float32 values. RULE is a code of affine.cuh or -1: then `rule` says it. Codes and zero points lie in int32.
template <i32 RULE> struct DequantizeSingle {
    static constexpr bool HOT = RULE >= 0;
    struct State {};
    struct Numbers {
        f32 scale, product;  // the product of zero point and scale, rounded
        i32 zero_point;
    };
    typedef u32x4 Unit;

    Codes codes;
    f32 *out;
    i32 rule;

    static QE_DEVICE Numbers load(const i32 *table, u64 at) {
        i32x4 r = cached_i32x4(table + 4 * at);
        return {real(r.x), real(r.y), r.z};
    }
    QE_DEVICE f32 value(const Numbers &n, i32 q) const {
        switch (RULE < 0 ? rule : RULE) {
        case QE_DEQUANTIZE_SUBTRACT: return mul_rn_f32(i32_to_f32(q - n.zero_point), n.scale);
        case QE_DEQUANTIZE_WIDE: return mul_rn_f32(i64_to_f32((i64)q - n.zero_point), n.scale);
        case QE_DEQUANTIZE_EXPANDED: return sub_rn_f32(mul_rn_f32(i32_to_f32(q), n.scale), n.product);
        default: return fma_rn_f32(i32_to_f32(q), n.scale, neg_f32(n.product));
        }
    }
    QE_DEVICE Unit read(u64 first) const { return codes.read(first); }
    QE_DEVICE void write(u64 first, const Unit &v, const Numbers &a, const Numbers &b, const Numbers &c,
                         const Numbers &d, State &) const {
        Four q = codes.unpacked(v);
        store_u32x4(out + first, {f32_bits(value(a, q.x)), f32_bits(value(b, q.y)), f32_bits(value(c, q.z)),
                                  f32_bits(value(d, q.w))});
    }
    QE_DEVICE void one(u64 at, const Numbers &c, State &, u32 = 0) const { out[at] = value(c, codes.one(at)); }
};

// f64((q - z) scale): both are float64 numbers, and so is their difference.
struct DequantizeDouble {
    static constexpr bool HOT = true;
    struct State {};
    struct Numbers {
        f64 scale, zero_point;
    };
    typedef u32x4 Unit;

    Codes codes;
    f64 *out;

    static QE_DEVICE Numbers load(const i32 *table, u64 at) {
        i32x4 r = cached_i32x4(table + 4 * at);
        return {real(r.x, r.y), real(r.z, r.w)};
    }
    static QE_DEVICE f64 value(const Numbers &n, i32 q) {
        return mul_rn_f64(sub_rn_f64(i32_to_f64(q), n.zero_point), n.scale);
    }
    QE_DEVICE Unit read(u64 first) const { return codes.read(first); }
    static QE_DEVICE void store_two(f64 *at, f64 a, f64 b) {
        u64 v = f64_bits(a), w = f64_bits(b);
        store_u32x4(at, {(u32)v, (u32)(v >> 32), (u32)w, (u32)(w >> 32)});
    }
    QE_DEVICE void write(u64 first, const Unit &v, const Numbers &a, const Numbers &b, const Numbers &c,
                         const Numbers &d, State &) const {
        Four q = codes.unpacked(v);
        store_two(out + first, value(a, q.x), value(b, q.y));
        store_two(out + first + 2, value(c, q.z), value(d, q.w));
    }
    QE_DEVICE void one(u64 at, const Numbers &c, State &, u32 = 0) const { out[at] = value(c, codes.one(at)); }
};
