"""Integer codes that every wing reads: what a rule row means.

A rule is an int64 row of `RULE_LENGTH` numbers::

    floor   [FLOOR, mantissa code, base, flags, (hp, cp, hn, cn) for right, none, left shift]
    float   [FLOAT, bits, rounding code, zero point inside?, saturates?, 0 ...]
    nested  [NESTED16, 0 ...]
"""

FLOOR, FLOAT, NESTED16 = 0, 1, 2
MANTISSA_Q31, MANTISSA_Q15_SATURATED, MANTISSA_M15, MANTISSA_M24, MANTISSA_M24_LEFT7 = 0, 1, 2, 3, 4
HALF_EVEN, HALF_AWAY = 0, 1
RULE_LENGTH = 16

# --- sweeps -------------------------------------------------------------------------------------------------
#: Pairs are drawn in aligned groups of this many: pair i lies in group ``i // GROUP`` at place ``r = i % GROUP``.
#: With p pairs a Philox block, a group takes ``GROUP / p`` blocks; place r uses block ``r % (GROUP / p)`` of the
#: group and, from word ``(4 / p) * (r // (GROUP / p))`` on, its own 4 / p words. Vector lanes then never
#: interleave words. A table: all words for the accumulator. A range: the first word for the multiplier.
GROUP = 2048
#: A table of channels gives each channel a run of this many pairs, channels in the order of a fixed stride.
RUN = 64
TABLE, RANGE = 0, 1
ACC_UNIFORM, ACC_QUANTILE, ACC_SEQUENTIAL, ACC_UNSATURATED = 0, 1, 2, 3
#: Exponents are binned at ``exponent + BIN_ORIGIN``; pairs of a zero multiplier fall into bin 0.
BINS, BIN_ORIGIN = 128, 64
#: Differences up to +-DIFFERENCE_LIMIT are counted one by one; the two outer cells hold what lies beyond.
DIFFERENCE_LIMIT = 64
DIFFERENCE_CELLS = 2 * DIFFERENCE_LIMIT + 3
#: Flags of ``rule[3]`` of a floor rule.
SHIFTS_ACCUMULATOR, NUDGE_SATURATES = 1, 2
#: ``2**f`` on [-1/2, 1/2] as a polynomial in Horner order, highest power first: ln(2)**k / k!, in float64. The
#: polynomial *is* the definition of log-uniform multipliers, so that every wing draws the same bits.
EXP2_COEFFICIENTS = (
    2.5678435993488206e-11, 4.4455382718708116e-10, 7.054911620801123e-09, 1.01780860092397e-07,
    1.321548679014431e-06, 1.5252733804059841e-05, 0.0001540353039338161, 0.0013333558146428443,
    0.009618129107628477, 0.05550410866482158, 0.24022650695910072, 0.6931471805599453, 1.0,
)  # fmt: skip
#: Cells an octave of the quantile tables (the top bits of a float64 mantissa), and octaves.
QUANTILE_BITS, QUANTILE_OCTAVES = 8, 64
