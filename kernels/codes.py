"""Integer codes that every wing reads: what a rule row means.

A rule is an int64 row of `RULE_LENGTH` numbers::

    floor   [FLOOR, mantissa code, base, flags, (hp, cp, hn, cn) for right, none, left shift]
    float   [FLOAT, bits, rounding code, zero point inside?, saturates?, 0 ...]
    nested  [NESTED16, 0 ...]
"""

FLOOR, FLOAT, NESTED16 = 0, 1, 2
MANTISSA_Q31, MANTISSA_Q15_SATURATED, MANTISSA_M15, MANTISSA_M24, MANTISSA_M24_LEFT7, MANTISSA_Q8 = 0, 1, 2, 3, 4, 5
#: Mantissas of the float32 scale: the scale, not the exponent, bounds their schemes' domains.
SCALE_MANTISSAS = (MANTISSA_M24, MANTISSA_M24_LEFT7, MANTISSA_Q8)
#: Rounding rules, real to integer. The names are in `qengine.affine.rounding`.
HALF_EVEN, HALF_AWAY, HALF_UP, HALF_DOWN, HALF_TOWARD_ZERO = 0, 1, 2, 3, 4
ROUND_FLOOR, ROUND_CEIL, ROUND_TRUNC, STOCHASTIC = 5, 6, 7, 8
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

# --- quantization of reals ------------------------------------------------------------------------------------
DIVIDE, RECIPROCAL = 0, 1
ZERO_POINT_AFTER, ZERO_POINT_INSIDE, ZERO_POINT_FUSED = 0, 1, 2
DEQUANTIZE_FLOAT64, DEQUANTIZE_SUBTRACT, DEQUANTIZE_EXPANDED, DEQUANTIZE_FUSED = 0, 1, 2, 3
#: Row of a quantizer, int64: family, then of an integer one the convention and the codes.
(
    AFFINE_FAMILY, AFFINE_BITS, AFFINE_STEP, AFFINE_ZERO_POINT, AFFINE_ROUNDING, AFFINE_DEQUANTIZATION,
    AFFINE_QMIN, AFFINE_QMAX, AFFINE_SEED, AFFINE_FAST,
) = range(10)  # fmt: skip
#: What `AFFINE_FAST` says: codes are the nearest ones but for ties, and values are float64 or float32 products.
NOT_FAST, FAST_FLOAT64, FAST_FLOAT32 = 0, 1, 2
AFFINE_ROW = 16
INTEGER_FAMILY, FORMAT_FAMILY = 0, 1
#: Stochastic rounding: element i lies in group ``g = i // DRAW_GROUP`` at place ``r = i % DRAW_GROUP`` and compares
#: its fraction with word ``r // (DRAW_GROUP / 4)`` of Philox block ``g * DRAW_GROUP / 4 + r % (DRAW_GROUP / 4)``.
DRAW_GROUP = 1024

# --- error statistics -----------------------------------------------------------------------------------------
#: Sums of a tile, per quantizer and channel, float64: e = x - value. E2 of elements inside the range, CLIPPED_E2 of
#: clamped ones; MAX of |e|; E_HIGH + E_LOW of e; X2, VALUE2, CROSS of x*x, value*value, x*value.
(
    SUM_E2, SUM_CLIPPED_E2, SUM_ABS, MAX_ABS, SUM_E_HIGH, SUM_E_LOW, SUM_X2, SUM_VALUE2, SUM_CROSS,
) = range(9)  # fmt: skip
FIELDS = 9
#: Counts of a tile, per quantizer and channel, int64: samples measured, the clamped ones of them, and those left
#: out because their value is NaN or infinite (a format that overflows).
COUNT, COUNT_CLIPPED, COUNT_OVERFLOWED = 0, 1, 2
COUNTS = 3
#: Accumulators are this many float64 lanes wide, whatever the processor's vectors: element i of a block adds to
#: lane ``i % LANES``.
LANES = 8
#: Numbers of a quantizer in the error pass, float64: step is the unit of the error histogram; the offset keeps the
#: running sum of e above every term (``2**16`` steps or more); the tolerance says how near to a tie, in steps, only
#: the convention's own arithmetic decides.
ERROR_STEP, ERROR_OFFSET, ERROR_TOLERANCE = 0, 1, 2
ERROR_NUMBERS = 3
#: Bins of e / step: ERROR_LINEAR an unit step on either side of 0 up to 1, then ERROR_OCTAVE an octave, upwards of
#: ERROR_OCTAVES octaves in the last; negative ones mirrored in front.
ERROR_LINEAR, ERROR_OCTAVE, ERROR_OCTAVES = 256, 8, 40
ERROR_SIDE = ERROR_LINEAR + ERROR_OCTAVE * ERROR_OCTAVES
ERROR_BINS = 2 * ERROR_SIDE

# --- formats --------------------------------------------------------------------------------------------------
#: Row of a number format with its options, int64. A grid element of magnitude ``a`` with exponent
#: ``k = max(floor(log2 a), MIN_EXPONENT)`` has the code ``((k - MIN_EXPONENT) << MANTISSA) + a / 2**(k - MANTISSA)``;
#: codes above MAX_CODE become OVER_CODE. A negative one is ``(code ^ FLIP) - FLIP + SIGN``, in the low 8 bits.
(
    FORMAT_BLOCK, FORMAT_SCALE, FORMAT_CODEBOOK, FORMAT_MANTISSA, FORMAT_MIN_EXPONENT, FORMAT_MAX_CODE,
    FORMAT_OVER_CODE, FORMAT_SIGN, FORMAT_FLIP, FORMAT_ROUNDING, FORMAT_EMAX, FORMAT_SCALE_THRESHOLD,
) = range(12)  # fmt: skip
FORMAT_ROW = 16
#: Scales: one given number; a power of two a block; e4m3fn times one given number; the block's largest magnitude.
SCALE_TENSOR, SCALE_E8M0, SCALE_E4M3, SCALE_ABSMAX = 0, 1, 2, 3
#: Numbers of a format, float64: what OVER_CODE stands for; a magnitude that overflows by every rule; an exact
#: fraction d rounds up from UP on and down to DOWN (not for ties to even); -0.0 where negative zero has a code, else
#: 0.0; thresholds and values of a codebook.
FORMAT_OVER_VALUE, FORMAT_CAP, FORMAT_UP, FORMAT_DOWN, FORMAT_ZERO = 0, 1, 2, 3, 4
FORMAT_THRESHOLDS, FORMAT_VALUES = 8, 24
CODEBOOK = 16
FORMAT_NUMBERS = FORMAT_VALUES + CODEBOOK
#: Exponents of E8M0 lie in +-E8M0_LIMIT; its bias is the same number.
E8M0_LIMIT = 127
#: Block scales of NVFP4 take the largest element of e2m1 to the block's largest magnitude.
E2M1_LARGEST, E4M3_LARGEST, E4M3_MIN_EXPONENT, E4M3_MANTISSA = 6.0, 448.0, -6, 3

# --- operators of runtimes ------------------------------------------------------------------------------------
#: Columns of the table of a staged requantization, int64, one row a channel: left shift of the accumulator, Q0.31
#: multiplier, left shift of the product's high half, right shift (31 at most each), zero point, clamp.
(
    STAGE_LEFT, STAGE_MULTIPLIER, STAGE_HIGH_LEFT, STAGE_RIGHT, STAGE_ZERO_POINT, STAGE_QMIN, STAGE_QMAX,
) = range(7)  # fmt: skip
STAGE_COLUMNS = 7
#: Its rule, int64: does the left shift saturate (or wrap); is the high half rounded half up (or floored); the right
#: shift's rounding; how the zero point is added.
STAGE_SATURATES, STAGE_ROUNDS, STAGE_ROUNDING, STAGE_ADDITION = 0, 1, 2, 3
STAGE_RULE = 4
#: Additions of a zero point: int32 that wraps; saturated to int16, then int16 that wraps; both steps saturating; cut to
#: the low 16 bits, then int16 that wraps.
ADD_INT32, ADD_INT16_WRAPS, ADD_INT16_SATURATES, ADD_INT16_CUT = 0, 1, 2, 3
#: Columns of ADD's table: of either input its zero point, shift (negative: to the right, floored), multiplier and
#: right shift; of the output left shift, multiplier, right shift, zero point, clamp.
(
    SUM_A_ZERO, SUM_A_SHIFT, SUM_A_MULTIPLIER, SUM_A_RIGHT, SUM_B_ZERO, SUM_B_SHIFT, SUM_B_MULTIPLIER, SUM_B_RIGHT,
    SUM_LEFT, SUM_MULTIPLIER, SUM_RIGHT, SUM_ZERO_POINT, SUM_QMIN, SUM_QMAX,
) = range(14)  # fmt: skip
SUM_COLUMNS = 14
#: Columns of an affine sum's table: zero points and multipliers of both inputs, right shift, zero point, clamp.
(
    PAIR_A_ZERO, PAIR_A_MULTIPLIER, PAIR_B_ZERO, PAIR_B_MULTIPLIER, PAIR_SHIFT, PAIR_ZERO_POINT,
    PAIR_QMIN, PAIR_QMAX,
) = range(8)  # fmt: skip
PAIR_COLUMNS = 8
#: Rule of a float chain, int64: bits of the arithmetic; is the last product fused with the offset; the rounding.
CHAIN_BITS, CHAIN_FUSED, CHAIN_ROUNDING = 0, 1, 2
CHAIN_RULE = 3
#: Factors of a float chain: multiplied one after the other; 1.0 changes nothing.
CHAIN_FACTORS = 3
