"""Integer codes that every wing reads: what a rule row means.

A rule is an int64 row of `RULE_LENGTH` numbers::

    floor   [FLOOR, mantissa code, base, shifts accumulator?, (hp, cp, hn, cn) for right, none, left shift]
    float   [FLOAT, bits, rounding code, zero point inside?, 0 ...]
    nested  [NESTED16, 0 ...]
"""

FLOOR, FLOAT, NESTED16 = 0, 1, 2
MANTISSA_Q31, MANTISSA_Q15_SATURATED, MANTISSA_M15, MANTISSA_M24, MANTISSA_M24_LEFT7 = 0, 1, 2, 3, 4
HALF_EVEN, HALF_AWAY = 0, 1
RULE_LENGTH = 16
