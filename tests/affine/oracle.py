"""Quantization of reals and its error once more, in fractions and Python integers; imports nothing of qengine.

The conventions are written down from the runtimes' own formulas: schemes.md sections 5 and 6, runtimes.md sections
2 and 3. A number is a Fraction, or a float infinity where an operation has overflowed.
"""

import decimal
import functools
import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

#: Significant bits, exponent of the smallest subnormal, exponent that is infinite.
FLOATS = {16: (11, -24, 16), 32: (24, -149, 128), 64: (53, -1074, 1024)}
ROUNDINGS = (
    "half-even", "half-away", "half-up", "half-down", "half-toward-zero", "floor", "ceil", "trunc",
)  # fmt: skip


def exact(number):
    """Return a float, NumPy scalar or integer as a Fraction; infinities stay."""
    number = number if isinstance(number, (int, Fraction)) else float(number)
    return number if isinstance(number, float) and math.isinf(number) else Fraction(number)


# --- one rounding of an exact result to a binary float --------------------------------------------------------


def rounded(value, bits):
    """Return the float nearest to a Fraction, ties to the even significand; infinite beyond the range."""
    if isinstance(value, float):
        return value
    if value == 0:
        return Fraction(0)
    digits, lowest, top = FLOATS[bits]
    numerator, denominator = abs(value.numerator), value.denominator
    exponent = numerator.bit_length() - denominator.bit_length()
    if (numerator << max(-exponent, 0)) < (denominator << max(exponent, 0)):
        exponent -= 1  # now 2**exponent <= |value| < 2**(exponent + 1)
    unit = max(exponent - digits + 1, lowest)
    numerator, denominator = numerator << max(-unit, 0), denominator << max(unit, 0)
    whole, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and whole % 2):
        whole += 1
    sign = -1 if value < 0 else 1
    if whole >> max(top - unit, 0):
        return sign * math.inf
    return Fraction(sign * whole * 2**unit) if unit >= 0 else Fraction(sign * whole, 2**-unit)


def _finite(*values):
    return not any(isinstance(v, float) for v in values)


def divide(a, b, bits):
    return rounded(a / b, bits) if _finite(a) else a


def product(a, b, bits):
    return rounded(a * b, bits) if _finite(a) else a


def total(a, b, bits):
    return rounded(a + b, bits) if _finite(a) else a


def fma(a, b, c, bits):
    return rounded(a * b + c, bits) if _finite(a) else a


def reciprocal(s, bits):
    return rounded(1 / s, bits)


# --- rounding rules -------------------------------------------------------------------------------------------


def to_integer(v, rule, word=None):
    """Round to an integer by a rule; `word`, 32 random bits, decides the stochastic one. Infinities stay."""
    if isinstance(v, float):
        return v
    whole = v.denominator  # what `rest` is a part of; integers alone, where a Fraction would be reduced each time
    low, rest = divmod(v.numerator, whole)
    if rest == 0:
        return low
    if rule == "floor":
        return low
    if rule == "ceil":
        return low + 1
    if rule == "trunc":
        return low if v > 0 else low + 1
    if rule == "stochastic":
        return low + (rest << 32 > word * whole)
    if 2 * rest != whole:
        return low + (2 * rest > whole)
    return {
        "half-even": low + low % 2,
        "half-away": low + (v > 0),
        "half-up": low + 1,
        "half-down": low,
        "half-toward-zero": low + (v < 0),
    }[rule]


def philox4x32_10(counter, key):
    """Return four words for a counter of four and a key of two (Salmon et al., SC'11)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p, q = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (q >> 32) ^ c1 ^ k0, q & 0xFFFFFFFF, (p >> 32) ^ c3 ^ k1, p & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


@functools.lru_cache(maxsize=1 << 16)
def _block(block, seed):
    return philox4x32_10((block & 0xFFFFFFFF, block >> 32, 0, 0), (seed & 0xFFFFFFFF, seed >> 32))


def draw(index, seed):
    """Return the word that element `index` compares its fraction with: groups of 1024, four words a block."""
    group, place = divmod(index, 1024)
    return _block(group * 256 + place % 256, seed)[place // 256]


# --- conventions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Convention:
    """`scaled` gives what is rounded, of (x, s, z); z is added after the rounding unless it is `inside`."""

    scaled: object
    inside: bool
    rule: str
    value: object
    bits: int
    any_zero_point: bool = False
    symmetric: bool = False


def _value64(q, s, z):
    return product(Fraction(q - z), s, 64)


def _subtract(q, s, z):
    return product(rounded(Fraction(q - z), 32), rounded(s, 32), 32)


def _expanded(q, s, z):
    q, s, z = (rounded(Fraction(number), 32) for number in (q, s, z))
    return total(product(q, s, 32), -product(z, s, 32), 32)


def _fused(q, s, z):
    q, s, z = (rounded(Fraction(number), 32) for number in (q, s, z))
    return fma(q, s, -product(z, s, 32), 32)


def _single(function):
    """Narrow all three to float32 first."""
    return lambda x, s, z: function(rounded(x, 32), rounded(s, 32), rounded(z, 32))


_divide64 = Convention(lambda x, s, z: divide(x, s, 64), False, "half-even", _subtract, 64)
_divide32 = Convention(_single(lambda x, s, z: divide(x, s, 32)), False, "half-even", _subtract, 32)
_multiply32 = Convention(
    _single(lambda x, s, z: product(x, reciprocal(s, 32), 32)), False, "half-even", _subtract, 32
)  # fmt: skip


def _but(row, **changes):
    return Convention(**{**row.__dict__, **changes})


CONVENTIONS = {
    # scaled = x / scale + zero_point; round; clamp; (q - zero_point) * scale: in double precision
    "calculator": Convention(
        lambda x, s, z: total(divide(x, s, 64), z, 64), True, "half-even", _value64, 64, any_zero_point=True
    ),
    # MlasQuantizeLinear: true division, RNE, + zp
    "onnx": _divide32,
    # f32-qs8-vcvt, fake_quantize, FBGEMM: multiply by the reciprocal, RNE, + zp
    "xnnpack": _multiply32,
    # quantize_per_tensor: rint(fma(x, f32(1/s), z))
    "torch": Convention(
        _single(lambda x, s, z: fma(x, reciprocal(s, 32), z, 32)), True, "half-even", _subtract, 32
    ),
    # AffineQuantizer.cu: the scale is a double
    "torch-cuda": _divide64,
    # AffineQuantize: TfLiteRound(val / float scale) + zp
    "tflite-ref": _but(_divide32, rule="half-away"),
    # optimized_ops, eight at a time on x86: _mm256_sub(mul(q, s), mul(zp, s))
    "tflite-opt": _but(_multiply32, value=_expanded),
    # ... with NEON: vmlaq of q * s on to -zp * s
    "tflite-opt-arm": _but(_multiply32, value=_fused),
    # ... and what is left over: TfLiteRound(val / double scale) + zp
    "tflite-opt-tail": _but(_divide64, rule="half-away"),
    # quotient and zero point added in float32, then rounded
    "stablehlo": Convention(
        _single(lambda x, s, z: total(divide(x, s, 32), z, 32)), True, "half-even", _subtract, 32
    ),
    "tensorrt": _but(_divide32, symmetric=True),
    # floor(x * inv_scale + 0.5) + zp
    "tf-uniform": _but(_multiply32, rule="half-up"),
}  # fmt: skip
#: Who else computes it, by the names that users know.
ALIASES = {
    "textbook": "calculator", "float64": "calculator", "onnxruntime": "onnx", "ort": "onnx", "litert": "xnnpack",
    "torch-fake": "xnnpack", "fbgemm": "xnnpack", "torch-quantize": "torch", "quantize_per_tensor": "torch",
    "tflite": "tflite-ref", "onednn": "stablehlo", "xnnpack-scalar": "stablehlo", "tensorflow-uniform": "tf-uniform",
}  # fmt: skip


def admits(convention, scale, zero_point, qmin, qmax):
    """Tell whether a convention has such parameters."""
    row = CONVENTIONS[convention]
    if row.symmetric and zero_point:
        return False
    single = row.bits == 32 or row.value is not _value64  # float32 arithmetic in one direction at least
    if single and not 2.0**-126 <= rounded(exact(scale), 32) <= 2.0**126:
        return False
    return row.any_zero_point or qmin <= zero_point <= qmax


def whole(x, scale, zero_point, convention, rule=None, word=None):
    """Return the code before the clamp: an integer or an infinity."""
    return whole_of(scaled(x, scale, zero_point, convention), zero_point, convention, rule, word)


def scaled(x, scale, zero_point, convention):
    """Return what is rounded."""
    return CONVENTIONS[convention].scaled(exact(x), exact(scale), Fraction(int(zero_point)))


def whole_of(v, zero_point, convention, rule=None, word=None):
    """Return the code before the clamp, of what is rounded."""
    row = CONVENTIONS[convention]
    q = to_integer(v, rule or row.rule, word)
    if row.inside:
        return q
    # Integers are added exactly in every runtime that matters here; in a float64 sum too, up to 2**52.
    return q + int(zero_point)


def clamp(q, qmin, qmax):
    """Return the code: what lies beyond saturates."""
    return qmin if q < qmin else qmax if q > qmax else int(q)


def quantize(x, scale, zero_point, qmin, qmax, convention="calculator", rule=None, word=None):
    """Return the code of one number."""
    return clamp(whole(x, scale, zero_point, convention, rule, word), qmin, qmax)


def value(q, scale, zero_point, convention="calculator"):
    """Return what a code stands for, a Fraction."""
    return CONVENTIONS[convention].value(int(q), exact(scale), int(zero_point))


# --- the error ------------------------------------------------------------------------------------------------

CONTEXT = decimal.Context(prec=60, Emin=-999_999, Emax=999_999)
EPS = Fraction(1, 2**52)


def _decimal(fraction):
    return CONTEXT.divide(decimal.Decimal(fraction.numerator), decimal.Decimal(fraction.denominator))


def _root(fraction):
    return CONTEXT.sqrt(_decimal(fraction))


def _decibel(fraction, factor=10):
    """Return ``factor * log10`` of a positive Fraction."""
    return float(CONTEXT.multiply(decimal.Decimal(factor), CONTEXT.log10(_decimal(fraction))))


def _ratio(signal, noise):
    """10 log10(signal / noise)."""
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 else _decibel(signal / noise)


def _integers(numbers):
    """Return dyadic Fractions as integers of one common unit, and the unit: sums are then fast."""
    unit = max((f.denominator for f in numbers), default=1)
    return [f.numerator * (unit // f.denominator) for f in numbers], unit


def metrics(xs, values, clipped):
    """Return every metric of samples, of what their codes stand for, and of which were clipped; exactly."""
    xs, values = [exact(x) for x in xs], [exact(v) for v in values]
    n = len(xs)
    numbers, unit = _integers(xs + values)
    x, v = numbers[:n], numbers[n:]
    e = [a - b for a, b in zip(x, v, strict=True)]
    one, two = Fraction(1, unit), Fraction(1, unit * unit)
    inside = two * sum(d * d for d, c in zip(e, clipped, strict=True) if not c)
    outside = two * sum(d * d for d, c in zip(e, clipped, strict=True) if c)
    e2, x2, v2 = inside + outside, two * sum(a * a for a in x), two * sum(b * b for b in v)
    cross = two * sum(a * b for a, b in zip(x, v, strict=True))
    peak = one * max(abs(a) for a in x)
    if x2 and v2:
        sign = -1 if cross < 0 else 1
        cosine = sign * float(_root(cross * cross / (x2 * v2)))
    else:
        cosine = 0.0 if x2 or v2 else 1.0
    floor2 = EPS * EPS
    return {
        "count": n,
        "mse": float(e2 / n),
        "rmse": float(_root(e2 / n)),
        "mae": float(one * sum(abs(d) for d in e) / n),
        "max_abs": float(one * max(abs(d) for d in e)),
        "bias": float(one * sum(e) / n),
        "sqnr": _ratio(x2, e2),
        "psnr": _ratio(peak * peak, e2 / n),
        "cosine": cosine,
        "clip_count": sum(map(bool, clipped)),
        "clip_rate": float(Fraction(sum(map(bool, clipped)), n)),
        "mse_rounding": float(inside / n),
        "mse_clipping": float(outside / n),
        "variants": {
            "ort-sqnr": _decibel(max(x2, floor2) / max(e2, floor2)),
            "torchao-sqnr": _ratio(x2, e2),
            "aeq-snr": float((x2 / n) / (e2 / n + Fraction(1e-9))),
            "ppq-snr": float(e2 / x2) if x2 else (math.inf if e2 else 0.0),
            "llama-rmse": float(CONTEXT.divide(_root(e2), decimal.Decimal(n))),
        },
    }


def entropy(codes):
    """Return the entropy of codes in bits."""
    counts = Counter(codes)
    n = decimal.Decimal(sum(counts.values()))
    log2 = CONTEXT.ln(decimal.Decimal(2))
    terms = []
    for count in counts.values():
        p = CONTEXT.divide(decimal.Decimal(count), n)
        terms.append(CONTEXT.multiply(p, CONTEXT.divide(CONTEXT.ln(p), log2)))
    return abs(float(sum(terms)))
