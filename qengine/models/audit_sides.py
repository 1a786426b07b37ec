"""The sides of an audit: a runtime's path or a scheme, and what it runs for an operator.

A name is ``runtime:path``, ``runtime:path@isa``, ``runtime:path/version``, ``runtime:path@isa/version``, or that of a
scheme: then every rounding of the model is the scheme's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..arguments import several
from ..backends.forms import FloatRule
from ..exceptions import DomainError, DTypeError, UnknownNameError, brief
from ..requant.multiplier import QuantizedMultiplier, split_real
from ..requant.requantize import requantize
from ..requant.schemes import Scheme as SchemeRow
from ..requant.schemes import get_scheme
from ..runtimes.activations import activation_range
from ..runtimes.arithmetic import Description, Scheme, Target
from ..runtimes.fronts import FRONTS
from ..runtimes.profiles import ISA_NAMES, candidates, get_profile, profiles
from ..runtimes.row import ARM, X86
from ..runtimes.sums import LEFT_SHIFT
from ..runtimes.tflite import ONE_CODE
from .replay_node import NotCovered, require
from .requantizing import ACCUMULATORS, PAIRS, REALS, SUMS, Requantizing, real_numbers
from .source import Array

_NAME = re.compile(r"(?P<runtime>[^:@/]+):(?P<path>[^:@/]+)(?:@(?P<isa>[^:@/]+))?(?:/(?P<version>[^:@/]+))?")
#: Sides that a file's format is audited for when nothing is said.
DEFAULT = {"litert": ("litert:xnnpack", "litert:opt", "litert:ref"), "onnxruntime": ("onnxruntime:cpu",)}
DEFAULT["onnxruntime"] += DEFAULT["litert"]
TFLITE, ONNX, TORCH = ("litert", "tensorflow", "tflite-runtime"), "onnxruntime", "torch"
#: Operators of ONNX Runtime and of TFLite that ask the same question.
SAME = (
    ("CONV_2D", "QLinearConv", "perch"), ("DEPTHWISE_CONV_2D", "QLinearConv", "depthwise"),
    ("FULLY_CONNECTED", "QLinearMatMul", "per"), ("FULLY_CONNECTED", "QGemm", "per"), ("ADD", "QLinearAdd", ""),
    ("MUL", "QLinearMul", ""), ("MEAN", "QLinearGlobalAveragePool", "keepdims"),
)  # fmt: skip
SIGNS = {"int8": "s8", "uint8": "u8"}


@dataclass(frozen=True, slots=True)
class Kernel:
    """What one side runs for some elements of an operator.

    `flips`: int8 codes are taken as uint8 ones, 128 higher, and back.
    """

    profile: Any
    arithmetic: Any
    front: str
    clamp: tuple[int, int]
    flips: bool = False

    def run(self, row: Requantizing, **columns: Any) -> Array:
        """Return the output codes of columns."""
        target = Target(row.dtype, *self.clamp, "cpu")
        if self.flips:
            for name in ("a", "b", "a_zp", "b_zp", "out_zp"):
                columns[name] = columns[name] + 128
            target = Target("uint8", self.clamp[0] + 128, self.clamp[1] + 128, "cpu")
        found: Array = FRONTS[self.front].run(self.arithmetic, self.profile, columns, target)
        return found.astype(np.int64) - 128 if self.flips else found.astype(np.int64)

    def same(self, other: Kernel) -> bool:
        """Return whether both run one arithmetic with one clamp: then they are equal, overflow and all."""
        return (self.arithmetic, self.front, self.clamp, self.flips) == (
            other.arithmetic, other.front, other.clamp, other.flips
        )  # fmt: skip

    @property
    def description(self) -> Description:
        """The arithmetic in words."""
        found: Description = self.arithmetic.describe()
        return found

    def accumulated(self, row: Requantizing, channels: Array, acc: Array) -> Array:
        """Return the outputs of accumulators, shape (n, channels)."""

        def column(values: Array) -> Array:
            return values if values.size == 1 else values[channels]

        return self.run(
            row, acc=acc, in_scale=column(row.in_scale), w_scale=column(row.w_scale), out_scale=column(row.out_scale),
            zero_point=column(row.out_zp),
        )  # fmt: skip

    def quantized(self, row: Requantizing, places: Array) -> Array:
        """Return the codes of real numbers, given by their places."""
        return self.run(row, input=real_numbers(places), out_scale=row.out_scale[0], out_zp=int(row.out_zp[0]))

    def tabulated(self, row: Requantizing, channel: int = 0) -> Array:
        """Return the output of every state, in the order of the states (pairs: by first code, then second)."""
        si, sw, so = (values[0] for values in (row.in_scale, row.w_scale, row.out_scale))
        zi, zs, zo = (int(values[0]) for values in (row.in_zp, row.second_zp, row.out_zp))
        if row.states == SUMS:
            total = np.arange(int(row.low[channel]), int(row.high[channel]) + 1, dtype=np.int64)
            count = int(row.count[channel])
            if self.front == "pool":
                return self.run(row, sum=total, count=count)
            return self.run(row, sum=total, count=count, in_scale=si, out_scale=so, in_zp=zi, out_zp=zo)
        first = row.first_codes
        if row.states == PAIRS or row.twins:
            second = first if row.twins else np.tile(row.second_codes, first.size)
            a = first if row.twins else np.repeat(first, row.second_codes.size)
            return self.run(row, a=a, b=second, a_scale=si, b_scale=sw, out_scale=so, a_zp=zi, b_zp=zs, out_zp=zo)
        return self.run(row, input=first, in_scale=si, in_zp=zi, out_scale=so, out_zp=zo)


@dataclass(frozen=True, slots=True)
class Region:
    """Elements ``[start, stop)`` along the axis on which vector code ends, and what runs there."""

    start: int
    stop: int
    kernel: Kernel


@dataclass(frozen=True, slots=True)
class SchemeSum:
    """ADD and SUB as TFLite's reference stages them, each rounding by a scheme."""

    scheme: str
    subtracts: bool

    def run(self, x: Any, to: Target) -> Array:
        """Return the output codes of laid-out operands of one channel."""
        sa, sb, so = (float(values[0]) for values in (x.a_scale, x.b_scale, x.out_scale))
        twice = 2.0 * max(sa, sb)
        y = [
            requantize((q.astype(np.int32) - int(z[0])) << LEFT_SHIFT, s / twice, scheme=self.scheme, overflow="wrap")
            for q, z, s in ((x.a, x.a_zp, sa), (x.b, x.b_zp, sb))
        ]
        total = y[0] - y[1] if self.subtracts else y[0] + y[1]
        found: Array = requantize(
            total, twice / (2.0**LEFT_SHIFT * so), scheme=self.scheme, zero_point=int(x.out_zp[0]), dtype=to.dtype,
            qmin=to.qmin, qmax=to.qmax, overflow="wrap",
        )  # fmt: skip
        return found.reshape(x.shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        recipe = "f64(s_i) / f64(2 max(s_a, s_b)); output f64(2 max(s_a, s_b)) / f64(2^20 s_o)"
        sign = "-" if self.subtracts else "+"
        return Description(recipe, f"{self.scheme}(y_a {sign} y_b),  y = {self.scheme}(d << 20)", "+ z, clamp")


@dataclass(frozen=True, slots=True)
class SchemeMean:
    """MEAN as TFLite's reference derives its multiplier, rounded by a scheme."""

    scheme: str

    def run(self, columns: Mapping[str, Array], to: Target) -> Array:
        """Return the output codes."""
        count, zero = int(columns["count"]), int(columns["in_zp"])
        real = float(columns["in_scale"]) / float(columns["out_scale"])
        m, e = (int(v[0]) for v in split_real(np.array([real])))
        power = min(count.bit_length() - 1, 32, 31 + e)  # m << power: below 2**63
        multiplier = QuantizedMultiplier((m << power) // count, e - power)
        found: Array = requantize(
            (columns["sum"] - zero * count).astype(np.int32), multiplier, scheme=self.scheme,
            zero_point=int(columns["out_zp"]), dtype=to.dtype, qmin=to.qmin, qmax=to.qmax, overflow="wrap",
        )  # fmt: skip
        return found

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        recipe = "f64(i) / f64(o), its mantissa divided by n"
        return Description(recipe, f"{self.scheme}(sum - n z_i)", "+ z_o, clamp")


@dataclass(frozen=True, slots=True)
class SchemeSide:
    """Every rounding by one scheme: what a popular emulation would compute."""

    name: str
    scheme: SchemeRow

    def regions(self, row: Requantizing) -> tuple[Region, ...]:
        """Return the one region of an operator, or raise NotCovered."""
        name, op = self.scheme.name, _tflite_op(row)
        floats = isinstance(self.scheme.rule, FloatRule)
        arithmetic: Any
        if row.states == ACCUMULATORS:
            # A scheme in floating point is its recipe too; fixed point takes the multiplier that the reference derives.
            recipe = self.scheme.recipe if floats else _reference_recipe(row, op)
            front, arithmetic = "accumulator", Scheme(name, recipe, "wrap")
        elif op == "QUANTIZE" and row.states != REALS:
            front, arithmetic = "rescaling", Scheme(name, None if floats else "double", "wrap")
        elif op == "MUL":
            front, arithmetic = "product", Scheme(name, None if floats else "float32", "wrap")
        elif op in ("ADD", "SUB"):
            front, arithmetic = "addition", SchemeSum(name, op == "SUB")
        elif op == "MEAN":
            front, arithmetic = "mean", SchemeMean(name)
        else:
            raise NotCovered(f"the scheme {name} says nothing of {row.op}{' of real numbers' * (row.states == REALS)}")
        bits = 48 if self.scheme.acc_bits == 48 else 32
        profile = SimpleNamespace(acc_bits=bits, code_dtype=row.code_dtype)
        return (Region(0, 1, Kernel(profile, arithmetic, front, (row.qmin, row.qmax))),)


def _reference_recipe(row: Requantizing, op: str) -> str:
    if row.runtime != "litert":
        return "double"
    profile = get_profile("litert", op, "ref", variant=row.variant)
    return getattr(profile.arithmetic, "recipe", None) or "double"


def _tflite_op(row: Requantizing) -> str:
    if row.runtime != ONNX:
        return row.op
    for ours, theirs, mark in SAME:
        if theirs == row.op and (mark != "depthwise" or row.variant.startswith("depthwise")):
            if mark == "perch" and row.variant.startswith("depthwise"):
                continue
            return ours
    return row.op


@dataclass(frozen=True, slots=True)
class RuntimeSide:
    """A path of a runtime, on an ISA, in a version (the newest measured one where none is named)."""

    name: str
    runtime: str
    path: str
    isa: str
    version: str | None

    def regions(self, row: Requantizing) -> tuple[Region, ...]:
        """Return what runs for an operator, region by region; NotCovered says why nothing is known of it."""
        path = self.path
        if self.runtime in TFLITE:
            require(path not in row.refused, row.refused.get(path, ""))
            path = row.routes.get(path, path)
        elif self.isa == ARM:
            require(
                not row.facts.get("turned"), "that ONNX Runtime turns int8 codes into uint8 was seen on x86-64 alone"
            )
        op, variant = self._translated(row, path)
        if path == "xnnpack" and row.facts.get("grouped"):
            op = "CONV_2D"
        try:
            profile = candidates(self.runtime, op, path, version=self.version, isa=self.isa, variant=variant)[0]
        except UnknownNameError as error:
            raise NotCovered(str(error)) from None
        fits = profile.dtype == row.dtype and profile.code_dtype == row.code_dtype
        # Of sums of products a TFLite model holds uint8 codes with int8 weights as int8 ones, 128 lower with their zero
        # points: the same sums, and the zero point is added after the rounding. Torch holds int8 codes as uint8 ones.
        shifted = row.states == ACCUMULATORS and (
            (row.runtime == ONNX and self.runtime in TFLITE) or self.runtime == TORCH
        )
        require(fits or shifted, f"{self.name} has no profile of {op} with {row.code_dtype} codes")
        kernel = _kernel(profile, row)
        body = profile.body
        if body is None:
            return (Region(0, 1, kernel),)
        rest = candidates(self.runtime, op, path, version=self.version, isa=self.isa, variant=body.rest)[0]
        length = math.prod(row.shape) if body.along == "elements" else row.shape[-1] if row.shape else 1
        if row.states == ACCUMULATORS:
            length = row.channels
        width = body.width
        if "broadcast" in row.facts:
            rows = row.facts["broadcast"]
            if rows is None:  # element by element: scalar code
                return (Region(0, 1, _kernel(rest, row)),)
            length, one = rows
            if one and op == "MUL" and row.dtype == "uint8":
                require(self.isa == X86, "MUL of rows of codes against one code was recorded on x86-64 alone")
                other = candidates(self.runtime, op, path, version=self.version, isa=self.isa, variant=ONE_CODE)[0]
                kernel = _kernel(other, row)
            elif one and op == "ADD" and row.dtype == "int8":
                # A row against one code takes the arithmetic of uint8 codes for int8 ones too (AddScalarBroadcast).
                width = 8
                other = candidates(self.runtime, op, path, version=self.version, isa=self.isa, variant="u8")[0]
                kernel = Kernel(other, other.arithmetic, other.front, kernel.clamp, flips=True)
        cut = length - length % width
        parts = (Region(0, cut, kernel), Region(cut, length, _kernel(rest, row)))
        return tuple(part for part in parts if part.start < part.stop)

    def _translated(self, row: Requantizing, path: str) -> tuple[str, str]:
        """Return operator and variant under which this runtime's profiles are kept."""
        if (row.runtime == ONNX) == (self.runtime == ONNX) and self.runtime in (*TFLITE, ONNX):
            return row.op, self._variant(row, row.op, path) if self.isa == ARM else row.variant
        arm = self.isa == ARM and path == "opt" and self.runtime in TFLITE and row.states == ACCUMULATORS
        require(not arm, "the kernel on Arm depends on how a TensorFlow Lite model would hold it")
        ours = _tflite_op(row)
        match = next((entry for entry in SAME if entry[0] == ours), None)
        columns = "percol" if row.granularity == "per-channel" else "pertensor"
        if self.runtime == TORCH:
            signed = row.variant != "u8" and row.facts.get("weights") != "uint8" and row.dtype in SIGNS
            linear = ours == "FULLY_CONNECTED" and signed
            require(linear, "torch's profiles are of linear layers with int8 weights")
            require(self.path != "onednn", "the order of oneDNN's products depends on the shape in ways not recorded")
            return "quantized_linear", columns
        require(match is not None and row.states != REALS, f"{self.runtime} has no profile of such an operator")
        assert match is not None
        if self.runtime == ONNX:
            require(row.dtype in SIGNS, f"ONNX Runtime's profiles are of 8 bits, not of {row.dtype}")
            sign, mean = SIGNS[row.code_dtype], match[2] == "keepdims"
            require(not mean or row.variant.startswith("keepdims"), "ONNX Runtime takes means over all pixels alone")
            signed = match[2] == "" or mean or row.code_dtype == "int8"
            require(signed, "ONNX Runtime with uint8 weights was not recorded")
            variants = {"perch": f"{sign}s8_perch", "depthwise": f"depthwise_{sign}s8", "per": f"{sign}s8_{columns}"}
            return match[1], variants.get(match[2], sign)
        plain = "" if row.dtype == "int8" else "u8"
        if match[2] == "":
            return ours, plain
        if match[2] == "keepdims":
            return ours, "_".join(filter(None, ("keepdims", plain)))
        if row.facts.get("weights") == "uint8":
            return ours, "u8"
        return ours, "pertensor" if columns == "pertensor" and ours != "DEPTHWISE_CONV_2D" else "perchannel"

    def _variant(self, row: Requantizing, op: str, path: str) -> str:
        """Return the variant on 64-bit Arm, where the kernel depends on the shape; NotCovered where it is not known."""
        facts = row.facts
        if path != "opt" or self.runtime not in TFLITE or row.variant not in ("perchannel", "pertensor", "u8"):
            return row.variant
        if op == "DEPTHWISE_CONV_2D":
            if facts["filter"] != (3, 3) or row.shape[-1] % 8:
                return "perchannel-general" if row.variant == "perchannel" else "u8-general"
            simple = facts["stride"] == (1, 1) and facts["padding"] == "VALID" and facts["dilation"] == (1, 1)
            require(
                simple and facts["multiplier"] == 1, "which kernel runs for this 3x3 filter on Arm was not recorded"
            )
            return row.variant
        single = facts["pixels"] * facts["batch"] == 1 and facts["inputs"] >= 8 and row.channels >= 4
        if not single:
            return row.variant
        require(row.variant != "u8" or op == "FULLY_CONNECTED", "one output pixel of uint8 codes was not recorded")
        return f"{row.variant}-{'1px' if op == 'CONV_2D' else '1row'}"


def _kernel(profile: Any, row: Requantizing) -> Kernel:
    low, high = row.qmin, row.qmax
    if row.activation != "NONE":
        low, high = activation_range(
            row.activation, row.out_scale, row.out_zp, row.dtype, xnnpack=profile.delegated
        )  # fmt: skip
    return Kernel(profile, profile.arithmetic, profile.front, (low, high))


Side = RuntimeSide | SchemeSide


def parse_side(name: Any) -> Side:
    """Return the side that a name stands for.

    Raises
    ------
    UnknownNameError, DTypeError

    Examples
    --------
    >>> from qengine.models.audit_sides import parse_side
    >>> parse_side("litert:xnnpack@arm64/2.3")
    RuntimeSide(name='litert:xnnpack@arm64/2.3', runtime='litert', path='xnnpack', isa='aarch64', version='2.3')
    >>> parse_side("tflite-single").scheme.name
    'single'
    >>> parse_side("litert:fast")
    Traceback (most recent call last):
        ...
    qengine.exceptions.UnknownNameError: unknown path 'fast' of litert on x86-64; known: opt, ref, xnnpack.
    """
    if not isinstance(name, str):
        raise DTypeError(f"a side must be a name such as 'litert:xnnpack' or 'single'; got {brief(name)}.")
    match = _NAME.fullmatch(name.strip())
    if match is None:
        if ":" in name:
            raise UnknownNameError(f"a side is runtime:path[@isa][/version] or a scheme; got {brief(name)}.")
        return SchemeSide(name.strip(), get_scheme(name.strip()))
    given = match["isa"] or "x86-64"
    isa = ISA_NAMES.get(given.lower())
    if isa is None:
        raise UnknownNameError.of("isa", given, ISA_NAMES)
    profiles(match["runtime"], path=match["path"], isa=isa, version=match["version"])  # raises with what is known
    return RuntimeSide(match.string, match["runtime"], match["path"], isa, match["version"])


def parse_sides(names: Any, runtime: str) -> tuple[Side, ...]:
    """Return the sides of an audit: at least two different ones.

    Raises
    ------
    DomainError, UnknownNameError, DTypeError
    """
    given = tuple(several("schemes", names)) if names is not None else DEFAULT[runtime]
    one = len(given) == 1
    if one:  # against what the file's own runtime does by default
        given = (DEFAULT[runtime][0], *given)
    sides = tuple(parse_side(name) for name in given)
    if len(sides) < 2:
        raise DomainError("an audit needs two sides at least: runtime:path or a scheme.")
    if len({side.name for side in sides}) < len(sides):
        alone = " (one alone is compared with the file's own runtime, which this one is)" if one else ""
        raise DomainError(f"the sides of an audit must differ; got {', '.join(side.name for side in sides)}{alone}.")
    return sides
