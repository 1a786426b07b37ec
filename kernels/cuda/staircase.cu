// Thresholds of K sides in C channels, and the comparison of every pair of sides in every channel.
//
// Tables are (K, n + 1, C): neighbouring threads read neighbouring channels. Column 0 is -2**31, so that the code
// before the first one has a threshold.
#include "staircase.cuh"

// rules: form, away, inside of each side; numbers: a, bp, bn, t, z, shift, low, high, each (K, C).
QE_KERNEL(256, thresholds)(u64 sides, u64 channels, i64 first, u64 n, const i32 *rules, const i64 *numbers,
                           const f64 *scale, const i64 *given, i64 *table) {
    u64 cells = sides * channels;
    for (u64 g = thread_number(); g < cells * (n + 1); g += thread_count()) {
        u64 c = g % channels, i = g / channels % (n + 1), k = g / channels / (n + 1);
        u64 at = k * channels + c;
        const i32 *rule = rules + 3 * k;
        i64 value = QE_ALWAYS;
        if (i > 0 && rule[0] == QE_STAIRS_GIVEN) {
            value = given[at * (n + 1) + i];
        } else if (i > 0) {
            i64 z = numbers[4 * cells + at], r = first + (i64)i - numbers[5 * cells + at];
            Stairs s;
            s.form = rule[0];
            s.a = numbers[at];
            s.bp = s.form == QE_STAIRS_NESTED16 ? z : numbers[cells + at];
            s.bn = numbers[2 * cells + at];
            s.t = (i32)numbers[3 * cells + at];
            s.low = numbers[6 * cells + at];
            s.high = numbers[7 * cells + at];
            s.scale = scale[at];
            finish(s);
            f64 boundary = s.form == QE_STAIRS_FLOAT32 ? float32_boundary(rule[1] != 0, rule[2] != 0, z, r) : 0.0;
            value = threshold(s, r, boundary);
        }
        table[g] = value;
    }
}

// Boundaries of the results r .. r + n - 1 of a float32 scheme: the same for all its multipliers.
QE_KERNEL(256, boundaries)(i32 away, i32 inside, i64 z, i64 r, u64 n, f64 *out) {
    for (u64 i = thread_number(); i < n; i += thread_count()) {
        out[i] = float32_boundary(away != 0, inside != 0, z, r + (i64)i);
    }
}

// Weight of the accumulators below x: the values rise.
QE_DEVICE i64 weight_below(i64 x, u64 size, const i64 *values, const i64 *cumulative) {
    u64 left = 0, right = size;
    while (left < right) {
        u64 middle = (left + right) / 2;
        if (values[middle] < x) left = middle + 1;
        else right = middle;
    }
    return cumulative[left];
}

// Replaces thresholds by the weight of the accumulators below them. `own`: 1 if each channel has its own values.
QE_KERNEL(256, weigh)(u64 cells, u64 channels, u64 own, u64 size, const i64 *values, const i64 *cumulative,
                      i64 *table) {
    for (u64 g = thread_number(); g < cells; g += thread_count()) {
        u64 row = own * (g % channels);
        table[g] = weight_below(table[g], size, values + row * size, cumulative + row * (size + 1));
    }
}

struct Staircases {
    const i64 *p, *q;  // thresholds of both sides, `step` from code to code
    u64 step, n;
    i64 bottom, stop;
    QE_DEVICE i64 clipped(i64 x) const { return clamp_i64(x, bottom, stop); }
};

// Extremes of the difference q - p where it passes 1: both staircases climbed together.
QE_DEVICE void climb(const Staircases &s, i64 &least, i64 &greatest) {
    u64 i = 1, j = 1;
    i64 x = s.bottom;
    least = 0;
    greatest = 0;
    while (x < s.stop) {
        while (i <= s.n && s.p[i * s.step] <= x) ++i;
        while (j <= s.n && s.q[j * s.step] <= x) ++j;
        least = min_i64(least, (i64)j - (i64)i);
        greatest = max_i64(greatest, (i64)j - (i64)i);
        x = s.stop;
        if (i <= s.n) x = min_i64(x, s.p[i * s.step]);
        if (j <= s.n) x = min_i64(x, s.q[j * s.step]);
    }
}

// out: (1 or 5 fields, C, pairs) as kernels/cpu/staircase.py describes; of a weighted table the first field alone.
QE_KERNEL(256, compare)(u64 sides, u64 channels, u64 n, const i64 *table, const i64 *domain_low,
                        const i64 *domain_high, u64 own, u64 size, const i64 *values, const i64 *cumulative, i32 full,
                        i64 *out) {
    u64 pairs = sides * (sides - 1) / 2, cells = channels * pairs;
    for (u64 g = thread_number(); g < cells; g += thread_count()) {
        u64 c = g % channels, p = 0, q = g / channels;
        while (q >= sides - 1 - p) {
            q -= sides - 1 - p;
            ++p;
        }
        q += p + 1;
        Staircases s;
        s.step = channels;
        s.n = n;
        s.p = table + p * (n + 1) * channels + c;
        s.q = table + q * (n + 1) * channels + c;
        s.bottom = max_i64(domain_low[p * channels + c], domain_low[q * channels + c]);
        s.stop = min_i64(domain_high[p * channels + c], domain_high[q * channels + c]) + 1;
        bool any = s.bottom < s.stop;
        if (any && size > 0) {
            u64 row = own * c;
            s.bottom = weight_below(s.bottom, size, values + row * size, cumulative + row * (size + 1));
            s.stop = weight_below(s.stop, size, values + row * size, cumulative + row * (size + 1));
        }
        Union sum = {0, s.bottom};
        i64 first = s.stop, last = s.bottom - 1;
        i64 u = s.bottom, v = s.bottom;
        bool below = false, above = false, far = false;
        for (u64 i = 1; any && i <= n; ++i) {
            i64 raw_x = s.p[i * s.step], raw_y = s.q[i * s.step];
            sum.add(raw_x, raw_y, s.stop);
            i64 x = s.clipped(raw_x), y = s.clipped(raw_y);
            below = below || x < y;
            above = above || y < x;
            far = far || x < v || y < u;
            if (x != y) {
                first = min_i64(first, min_i64(x, y));
                last = max_i64(last, max_i64(x, y) - 1);
            }
            u = x;
            v = y;
        }
        u64 at = c * pairs + g / channels;
        out[at] = sum.total;
        if (full) {
            bool some = sum.total > 0;
            i64 least = -(i64)below, greatest = above;
            if (some && far) climb(s, least, greatest);
            out[cells + at] = some ? first : 1;
            out[2 * cells + at] = some ? last : 0;
            out[3 * cells + at] = some ? least : 0;
            out[4 * cells + at] = some ? greatest : 0;
        }
    }
}
