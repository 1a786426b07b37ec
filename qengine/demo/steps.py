"""The steps of the tour, as data: the terminal runs them, the notebook is made from them.

A step's code sees the names of the steps before it, and prints what it has to show.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `text` is Markdown, `code` Python; `needs` names a package that the plain installation lacks."""

    title: str
    text: str
    code: str
    needs: str = ""


STEPS: tuple[Step, ...] = (
    Step(
        "One accumulator, two answers",
        "A convolution of an EfficientNet sums to the int32 accumulator 585 (tensorflow#102943). The runtime answers "
        "**-120**. TFLite's integer arithmetic, rounding once or twice, answers **-119**. The scales are the model's, "
        "exact float32 values; the zero point is -126.",
        """\
import numpy as np
import qengine as qe

scales = 0.05296124517917633, 0.024093778803944588, 0.11484327912330627     # input, weight, output
for scheme in ("single", "double", "fp32"):
    q = qe.requantize_scales(585, *scales, scheme=scheme, zero_point=-126, dtype="int8")
    print(f"{scheme:8}{int(q)}")
""",
    ),
    Step(
        "Why: a tie that exists in float32 alone",
        "The real product lies a hair above 6.5, so it rounds to 7, and 7 - 126 = -119. XNNPACK, LiteRT's default "
        "engine, multiplies in float32: there the product is 6.5 exactly, and ties go to even, to 6. Rounding the "
        'integer product to nearest never gives this: "TFLite rounds once now" is not the explanation.',
        """\
S = np.float32(scales[0]) * np.float32(scales[1]) / np.float32(scales[2])
print("exact  ", 585 * scales[0] * scales[1] / scales[2])
print("float32", np.float32(585) * S, "->", np.rint(np.float32(585) * S))
""",
    ),
    Step(
        "What a runtime runs",
        "`qe.emulate` runs the arithmetic of an operator as it was measured, with 0 mismatches on the recorded outputs "
        "of the real runtimes. In one and the same LiteRT three paths exist: the default one, the optimized kernels "
        "and the reference kernels.",
        """\
columns = {"in_scale": scales[0], "w_scale": scales[1], "out_scale": scales[2]}
for path in ("xnnpack", "opt", "ref"):
    row = qe.get_profile("litert", "CONV_2D", path)
    q = qe.emulate("litert", "CONV_2D", path, acc=585, zero_point=-126, **columns)
    print(f"{path:8}{int(q)}   {row.formula}   ({row.evidence.rows:,} rows)")
""",
    ),
    Step(
        "Rounding once, and rounding twice",
        "TFLite's reference kernels round **twice**: to 31 bits, then by a right shift of n, ties away from zero. With "
        "the multiplier 1/4 (n = 1), a quarter becomes a half at the first rounding, and 1 at the second.",
        """\
quarter = qe.QuantizedMultiplier(1 << 30, -1)          # mantissa in Q0.31, shift: 0.25
acc = np.array([1, 2, -2, -3])
print("acc / 4", acc / 4)
for scheme in ("single", "double"):
    print(f"{scheme:8}{qe.requantize(acc, quarter, scheme=scheme)}")
""",
    ),
    Step(
        "The law 2^-(n+1)",
        "How often do the two differ? All 4,294,967,296 accumulators, counted exactly in microseconds; nothing is "
        "sampled. Without a right shift they never differ; with a shift of n they differ on a share of 2^-(n+1).",
        """\
for n in range(8):
    count = qe.count_divergence("single", "double", qe.QuantizedMultiplier(1518500251, -n))
    print(f"n = {n}   {count:>13,}   {count / 2**32:.6f}   2^-(n+1) = {2.0 ** -(n + 1) if n else 0:.6f}")
""",
    ),
    Step(
        "The port's bug",
        "Many notebooks show far more: half of all accumulators at n = 0. They port gemmlowp's high multiply with "
        "`>> 31`, which floors, where C++ divides and truncates toward zero. That arithmetic is nobody's; it has a "
        "name here so that it can be told from the others: `floor-port`.",
        """\
at_zero = qe.QuantizedMultiplier(1578349059, 0)
x = -1032852841
print("exact     ", x * 1578349059 / 2**31)
for scheme in ("single", "double", "floor-port"):
    print(f"{scheme:10}", int(qe.requantize(x, at_zero, scheme=scheme)))
count = qe.count_divergence("double", "floor-port", at_zero)
print(f"double and floor-port differ on {count:,} accumulators ({count / 2**32:.4%})")
""",
    ),
    Step(
        "Near-ties of float32",
        "Back to the issue's scales, now with int8 outputs: on how many accumulators does float32 differ from rounding "
        "once? On those whose product is so near to a tie that float32 cannot tell. Here are the first ones, 585 among "
        "them, and what happens on one.",
        """\
comparison = qe.compare_schemes("single", "double", "fp32", scales=scales, zero_point=-126, dtype="int8")
print("equal everywhere:", comparison.classes)
pair = comparison.couple("single", "fp32")
print(f"single and fp32 differ on {pair.divergent} accumulators, by {pair.max_abs_diff} at most")
print([pair.inputs()[i] for i in range(8)], "...")
print(pair.first.why)
""",
    ),
    Step(
        "Which arithmetic was it?",
        "Recorded outputs say which scheme made them. 4,000 outputs of the default path, as a file from somewhere "
        "would hold them; those that every scheme clamps to an end of int8 tell nothing, and are not counted:",
        """\
acc = np.random.default_rng(1).integers(-10_000, 10_000, 4000)
output = qe.emulate("litert", "CONV_2D", "xnnpack", acc=acc, zero_point=-126, **columns)
found = qe.identify(acc=acc, output=output, scales=scales, zero_point=-126)
for scheme in ("fp32", "single", "double", "floor-port"):
    row = next(row for row in found.ranking if row.scheme == scheme)
    print(f"{scheme:11}{row.matches:,} matches, {row.mismatches:,} mismatches")
""",
    ),
    Step(
        "Where will a model disagree?",
        "Nobody needs an image for that. From the weights, the biases and the ranges of the inputs follows which "
        "accumulators can arise at all; on each of them the arithmetic of two paths is the same or is not, and all are "
        "counted. This network has six layers that requantize; `qengine audit MODEL` does it for any .tflite or .onnx.",
        """\
from importlib import resources

model = resources.files("qengine.demo") / "network.tflite"
audited = qe.audit(model, ["litert:xnnpack", "litert:ref"])
for layer in audited.layers:
    for pair in layer.pairs:
        print(f"{layer.row.op:18}{pair.verdict}")
""",
        needs="tflite",
    ),
)
