// What one would write in C++ without a thought of speed, and the multiplications that the loops cannot do without.
// Built by peers.py: g++ -O3 -march=native. Accumulators are int32, multipliers Q0.31, right shifts 0 to 31.

#include <algorithm>
#include <cmath>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

// |x * m| < 2**62, half a unit at most 2**61: int64 holds the sum.
inline int64_t rounded_once(int32_t x, int32_t m, int right) {
    return (static_cast<int64_t>(x) * m + (int64_t{1} << (30 + right))) >> (31 + right);
}

inline int32_t rounded_twice(int32_t x, int32_t m, int right) {
    const int64_t product = static_cast<int64_t>(x) * m;
    const int64_t nudge = product >= 0 ? int64_t{1} << 30 : 1 - (int64_t{1} << 30);
    const auto high = static_cast<int32_t>((product + nudge) / (int64_t{1} << 31));
    const auto mask = static_cast<int32_t>((int64_t{1} << right) - 1);
    const int32_t remainder = high & mask;
    const int32_t threshold = (mask >> 1) + (high < 0 ? 1 : 0);
    return (high >> right) + (remainder > threshold ? 1 : 0);
}

// The clamp comes before the sum with the zero point, so that int32 holds every intermediate.
inline int8_t to_int8(int64_t y, int32_t zero_point) {
    return static_cast<int8_t>(std::clamp<int64_t>(y + zero_point, -128, 127));
}

}  // namespace

extern "C" {

void requantize_single(const int32_t* x, int64_t n, int32_t m, int32_t right, int32_t zero_point, int8_t* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = to_int8(rounded_once(x[i], m, right), zero_point);
}

void requantize_double(const int32_t* x, int64_t n, int32_t m, int32_t right, int32_t zero_point, int8_t* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = to_int8(rounded_twice(x[i], m, right), zero_point);
}

void requantize_fp32(const int32_t* x, int64_t n, float scale, int32_t zero_point, int8_t* out) {
    const auto low = static_cast<float>(-128 - zero_point), high = static_cast<float>(127 - zero_point);
    for (int64_t i = 0; i < n; ++i) {
        const float v = std::clamp(static_cast<float>(x[i]) * scale, low, high);
        out[i] = static_cast<int8_t>(static_cast<int32_t>(std::nearbyint(v)) + zero_point);
    }
}

void quantize(const float* x, int64_t n, float scale, int32_t zero_point, int8_t* out) {
    const auto low = static_cast<float>(-128 - zero_point), high = static_cast<float>(127 - zero_point);
    for (int64_t i = 0; i < n; ++i) {
        const float v = std::clamp(x[i] / scale, low, high);
        out[i] = static_cast<int8_t>(static_cast<int32_t>(std::nearbyint(v)) + zero_point);
    }
}

void dequantize(const int8_t* q, int64_t n, float scale, int32_t zero_point, float* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(q[i] - zero_point) * scale;
}

// Accumulators of [low, low + n) on which rounding once and rounding twice differ.
int64_t sweep(int32_t low, int64_t n, int32_t m, int32_t right) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
        const auto x = static_cast<int32_t>(low + i);
        count += rounded_once(x, m, right) != rounded_twice(x, m, right) ? 1 : 0;
    }
    return count;
}

// Do n rounds of eight independent vector multiplications 32 x 32 -> 64 bits; return products a round, 0 if there are none.
int64_t multiplications(int64_t n, int64_t* sink) {
#if defined(__AVX512F__)
    using Vector = __m512i;
    const Vector factor = _mm512_set1_epi64(0x5bd1e995);
    const auto multiply = [&](Vector v) { return _mm512_mul_epi32(v, factor); };
#elif defined(__AVX2__)
    using Vector = __m256i;
    const Vector factor = _mm256_set1_epi64x(0x5bd1e995);
    const auto multiply = [&](Vector v) { return _mm256_mul_epi32(v, factor); };
#else
    return 0;
#endif
#if defined(__AVX2__)
    Vector v[8];
    for (int k = 0; k < 8; ++k) v[k] = factor;
    for (int64_t i = 0; i < n; ++i) {
        for (int k = 0; k < 8; ++k) v[k] = multiply(v[k]);
    }
    for (int k = 0; k < 8; ++k) {
        alignas(64) int64_t words[8] = {};
        __builtin_memcpy(words, &v[k], sizeof v[k]);
        *sink += words[0];
    }
    return 8 * static_cast<int64_t>(sizeof(Vector) / 8);
#endif
}

}  // extern "C"
