// Requantization of contiguous arrays (outer, channels, inner) and the check of their accumulators.
//
// The unit is four elements in a row: 16-byte loads (two of int64), 4 to 32 bytes stored, and the elements behind the
// last whole unit one by one. Arrays that do not start at a multiple of a vector go element by element.
#include "compiler.cuh"
#include "requantize.cuh"
#include "units.cuh"

template <class Rule, class X>
QE_DEVICE Four apply_four(const Channel &c, const Epilogue &e, const FourOf<X> &v) {
    return {Rule::apply(c, e, v.x), Rule::apply(c, e, v.y), Rule::apply(c, e, v.z), Rule::apply(c, e, v.w)};
}

// ---- one channel: four units of a thread in flight
template <class Rule, class X, i32 OUT>
QE_DEVICE void tensor_units(u64 units, const X *x, void *out, i32 kind, const Channel &c, const Epilogue &e) {
    u64 stride = thread_count(), u = thread_number();
    for (; Rule::HOT && u + 3 * stride < units; u += 4 * stride) {
        FourOf<X> v[4];
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) v[k] = load_four(x + 4 * (u + k * stride));
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) {
            store_four<OUT>(out, kind, 4 * (u + k * stride), apply_four<Rule>(c, e, v[k]));
        }
    }
    QE_NO_UNROLL
    for (; u < units; u += stride) store_four<OUT>(out, kind, 4 * u, apply_four<Rule>(c, e, load_four(x + 4 * u)));
}

template <class Rule, class X>
QE_DEVICE void tensor(u64 n, const X *x, void *out, i32 kind, i32 vectors, const Channel &c, const Epilogue &e) {
    u64 units = vectors ? n / 4 : 0;
    if (Rule::HOT && kind == QE_OUT_BYTE) tensor_units<Rule, X, QE_OUT_BYTE>(units, x, out, kind, c, e);
    else if (Rule::HOT && kind == QE_OUT_WORD) tensor_units<Rule, X, QE_OUT_WORD>(units, x, out, kind, c, e);
    else tensor_units<Rule, X, -1>(units, x, out, kind, c, e);
    QE_NO_UNROLL
    for (u64 i = 4 * units + thread_number(); i < n; i += thread_count()) {
        store_one(out, kind, i, Rule::apply(c, e, x[i]));
    }
}

// ---- channels last (inner = 1): a thread's four elements keep their channels where the stride is a multiple of them
struct Rows {
    u64 n, channels;
    u64 stride;   // units; threads from this number on rest
    u64 advance;  // channels by which the first element moves on: 4 * stride modulo channels
};

template <class Rule, class X>
QE_DEVICE Four apply_row(const Channel *c, const Epilogue &e, const FourOf<X> &v) {
    return {Rule::apply(c[0], e, v.x), Rule::apply(c[1], e, v.y), Rule::apply(c[2], e, v.z), Rule::apply(c[3], e, v.w)};
}

template <class Rule, class X, i32 OUT>
QE_DEVICE void row_units(const Rows &r, const X *x, void *out, i32 kind, const Channel *table, const Epilogue &e) {
    u64 u = thread_number(), units = r.n / 4;
    if (u >= r.stride) return;
    u64 channel = 4 * u % r.channels;
    Channel c[4];
    do {
        QE_UNROLL
        for (u32 k = 0; k < 4; ++k) {
            u64 at = channel + k;
            c[k] = load_channel(table + (at < r.channels ? at : at % r.channels));
        }
        if (r.advance == 0) break;
        if (u < units) store_four<OUT>(out, kind, 4 * u, apply_row<Rule>(c, e, load_four(x + 4 * u)));
        channel += r.advance;
        if (channel >= r.channels) channel -= r.channels;
        u += r.stride;
    } while (u < units);
    for (; Rule::HOT && u + r.stride < units; u += 2 * r.stride) {
        FourOf<X> v = load_four(x + 4 * u), w = load_four(x + 4 * (u + r.stride));
        store_four<OUT>(out, kind, 4 * u, apply_row<Rule>(c, e, v));
        store_four<OUT>(out, kind, 4 * (u + r.stride), apply_row<Rule>(c, e, w));
    }
    QE_NO_UNROLL
    for (; u < units; u += r.stride) store_four<OUT>(out, kind, 4 * u, apply_row<Rule>(c, e, load_four(x + 4 * u)));
}

template <class Rule, class X>
QE_DEVICE void rows(const Rows &r, const X *x, void *out, i32 kind, const Channel *table, const Epilogue &e) {
    if (Rule::HOT && kind == QE_OUT_BYTE) row_units<Rule, X, QE_OUT_BYTE>(r, x, out, kind, table, e);
    else row_units<Rule, X, -1>(r, x, out, kind, table, e);
    u64 i = r.n / 4 * 4 + thread_number();
    if (i < r.n) store_one(out, kind, i, Rule::apply(load_channel(table + i % r.channels), e, x[i]));
}

// ---- any layout: where a thread stands is carried along, one division at the start
struct Place {
    u64 inner, channels;
    u64 step;           // how far the place in a row moves on, and
    u64 channel_step;   // how many channels: the stride in elements, divided by inner and modulo channels
};

template <class Rule, class X, u32 V>
QE_DEVICE void place_units(
    u64 n, const X *x, void *out, i32 kind, const Channel *table, const Place &p, const Epilogue &e) {
    u64 i = V * thread_number(), stride = V * thread_count();
    u64 at = i % p.inner, channel = i / p.inner % p.channels, loaded = ~0ull;
    Channel c = {};
    QE_NO_UNROLL
    for (; i < n; i += stride) {
        if (channel != loaded) {
            c = load_channel(table + channel);
            loaded = channel;
        }
        if (V == 4 && at + 4 <= p.inner && i + 4 <= n) {
            store_four<-1>(out, kind, i, apply_four<Rule>(c, e, load_four(x + i)));
        } else {
            u64 inside = at;
            QE_NO_UNROLL
            for (u64 k = i; k < n && k < i + V; ++k) {
                store_one(out, kind, k, Rule::apply(c, e, x[k]));
                if (++inside == p.inner) {
                    inside = 0;
                    loaded = loaded + 1 == p.channels ? 0 : loaded + 1;
                    c = load_channel(table + loaded);
                }
            }
        }
        at += p.step;
        channel += p.channel_step;
        if (at >= p.inner) {
            at -= p.inner;
            ++channel;
        }
        if (channel >= p.channels) channel -= p.channels;
    }
}

template <class Rule, class X>
QE_DEVICE void places(
    u64 n, const X *x, void *out, i32 kind, i32 vectors, const Channel *table, const Place &p, const Epilogue &e) {
    if (vectors) place_units<Rule, X, 4>(n, x, out, kind, table, p, e);
    else place_units<Rule, X, 1>(n, x, out, kind, table, p, e);
}

// ---- the kernels: hot rules of int32 accumulators with loops of their own, any rule of both types
template <class Rule, class X>
QE_DEVICE void tensor_of(u64 n, const X *x, void *out, i32 kind, i32 vectors, i64 p, i64 q, i32 a, i32 t, i32 low,
                         i32 high, i32 zero_point, i32 rule, i32 qmin, i32 qmax) {
    tensor<Rule>(n, x, out, kind, vectors, {p, q, a, t, low, high, zero_point, {0, 0, 0}}, {rule, qmin, qmax});
}

QE_KERNEL(256, requantize_floor_tensor)(
    u64 n, const i32 *x, void *out, i32 kind, i32 vectors, i64 p, i64 q, i32 a, i32 t, i32 low, i32 high,
    i32 zero_point, i32 rule, i32 qmin, i32 qmax) {
    tensor_of<FloorRule>(n, x, out, kind, vectors, p, q, a, t, low, high, zero_point, rule, qmin, qmax);
}
QE_KERNEL(256, requantize_float32_tensor)(
    u64 n, const i32 *x, void *out, i32 kind, i32 vectors, i64 p, i64 q, i32 a, i32 t, i32 low, i32 high,
    i32 zero_point, i32 rule, i32 qmin, i32 qmax) {
    tensor_of<Float32Rule>(n, x, out, kind, vectors, p, q, a, t, low, high, zero_point, rule, qmin, qmax);
}
QE_KERNEL(256, requantize_tensor_i32)(
    u64 n, const i32 *x, void *out, i32 kind, i32 vectors, i64 p, i64 q, i32 a, i32 t, i32 low, i32 high,
    i32 zero_point, i32 rule, i32 qmin, i32 qmax) {
    tensor_of<AnyRule>(n, x, out, kind, vectors, p, q, a, t, low, high, zero_point, rule, qmin, qmax);
}
QE_KERNEL(256, requantize_tensor_i64)(
    u64 n, const i64 *x, void *out, i32 kind, i32 vectors, i64 p, i64 q, i32 a, i32 t, i32 low, i32 high,
    i32 zero_point, i32 rule, i32 qmin, i32 qmax) {
    tensor_of<AnyRule>(n, x, out, kind, vectors, p, q, a, t, low, high, zero_point, rule, qmin, qmax);
}

QE_KERNEL(256, requantize_floor_rows)(
    u64 n, const i32 *x, void *out, i32 kind, const Channel *table, u64 channels, u64 stride, u64 advance,
    i32 rule, i32 qmin, i32 qmax) {
    rows<FloorRule>({n, channels, stride, advance}, x, out, kind, table, {rule, qmin, qmax});
}
QE_KERNEL(256, requantize_float32_rows)(
    u64 n, const i32 *x, void *out, i32 kind, const Channel *table, u64 channels, u64 stride, u64 advance,
    i32 rule, i32 qmin, i32 qmax) {
    rows<Float32Rule>({n, channels, stride, advance}, x, out, kind, table, {rule, qmin, qmax});
}
QE_KERNEL(256, requantize_rows_i32)(
    u64 n, const i32 *x, void *out, i32 kind, const Channel *table, u64 channels, u64 stride, u64 advance,
    i32 rule, i32 qmin, i32 qmax) {
    rows<AnyRule>({n, channels, stride, advance}, x, out, kind, table, {rule, qmin, qmax});
}
QE_KERNEL(256, requantize_rows_i64)(
    u64 n, const i64 *x, void *out, i32 kind, const Channel *table, u64 channels, u64 stride, u64 advance,
    i32 rule, i32 qmin, i32 qmax) {
    rows<AnyRule>({n, channels, stride, advance}, x, out, kind, table, {rule, qmin, qmax});
}

QE_KERNEL(256, requantize_floor_places)(
    u64 n, const i32 *x, void *out, i32 kind, i32 vectors, const Channel *table, u64 inner, u64 channels, u64 step,
    u64 channel_step, i32 rule, i32 qmin, i32 qmax) {
    places<FloorRule>(n, x, out, kind, vectors, table, {inner, channels, step, channel_step}, {rule, qmin, qmax});
}
QE_KERNEL(256, requantize_float32_places)(
    u64 n, const i32 *x, void *out, i32 kind, i32 vectors, const Channel *table, u64 inner, u64 channels, u64 step,
    u64 channel_step, i32 rule, i32 qmin, i32 qmax) {
    places<Float32Rule>(
        n, x, out, kind, vectors, table, {inner, channels, step, channel_step}, {rule, qmin, qmax});
}
QE_KERNEL(256, requantize_places_i32)(
    u64 n, const i32 *x, void *out, i32 kind, i32 vectors, const Channel *table, u64 inner, u64 channels, u64 step,
    u64 channel_step, i32 rule, i32 qmin, i32 qmax) {
    places<AnyRule>(n, x, out, kind, vectors, table, {inner, channels, step, channel_step}, {rule, qmin, qmax});
}
QE_KERNEL(256, requantize_places_i64)(
    u64 n, const i64 *x, void *out, i32 kind, i32 vectors, const Channel *table, u64 inner, u64 channels, u64 step,
    u64 channel_step, i32 rule, i32 qmin, i32 qmax) {
    places<AnyRule>(n, x, out, kind, vectors, table, {inner, channels, step, channel_step}, {rule, qmin, qmax});
}

// ---- the domain: the least index of an accumulator outside its channel's closed range; `first` starts at n or above
template <class X>
QE_DEVICE void outside(u64 n, const X *x, i32 vectors, const X *low, const X *high, const Place &p, u64 *first) {
    u64 stride = thread_count(), i = thread_number(), found = n;
    if (p.channels == 1) {
        X least = low[0], most = high[0];
        u64 units = vectors ? n / 4 : 0;
        for (u64 u = i; u < units; u += stride) {
            FourOf<X> v = load_four(x + 4 * u);
            bool inside = v.x >= least && v.x <= most && v.y >= least && v.y <= most && v.z >= least && v.z <= most &&
                          v.w >= least && v.w <= most;
            if (inside) continue;
            found = 4 * u + (v.x < least || v.x > most ? 0 : v.y < least || v.y > most ? 1 :
                             v.z < least || v.z > most ? 2 : 3);
            break;
        }
        for (u64 k = 4 * units + i; k < n && found == n; k += stride) {
            if (x[k] < least || x[k] > most) found = k;
        }
    } else {
        u64 at = i % p.inner, channel = i / p.inner % p.channels;
        for (; i < n && found == n; i += stride) {
            if (x[i] < low[channel] || x[i] > high[channel]) found = i;
            at += p.step;
            channel += p.channel_step;
            if (at >= p.inner) {
                at -= p.inner;
                ++channel;
            }
            if (channel >= p.channels) channel -= p.channels;
        }
    }
    if (found < n) atomicMin(first, found);
}

QE_KERNEL(256, accumulators_outside_i32)(
    u64 n, const i32 *x, i32 vectors, const i32 *low, const i32 *high, u64 inner, u64 channels, u64 step,
    u64 channel_step, u64 *first) {
    outside(n, x, vectors, low, high, {inner, channels, step, channel_step}, first);
}
QE_KERNEL(256, accumulators_outside_i64)(
    u64 n, const i64 *x, i32 vectors, const i64 *low, const i64 *high, u64 inner, u64 channels, u64 step,
    u64 channel_step, u64 *first) {
    outside(n, x, vectors, low, high, {inner, channels, step, channel_step}, first);
}
