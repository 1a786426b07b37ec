"""Checks that ship to users: known answers, schemes against the specification, canonical digests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qengine.kernels.reference.philox import philox4x32_10

from . import backends
from .exceptions import DomainError
from .requant import spec
from .requant.explain import explain
from .requant.multiplier import QuantizedMultiplier
from .requant.requantize import requantize
from .requant.schemes import schemes
from .sweeps.sweep import sweep

#: Random123's known answers for philox4x32-10: (counter, key, output).
PHILOX = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)  # fmt: skip
#: Scales of tensorflow#102943.
ISSUE = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)

#: Schemes of the first canonical sweeps. A digest depends on all schemes of its sweep: a later scheme comes with a
#: sweep of its own, and the digests known so far stay.
FIRST = (
    "single", "double", "double-up", "half-away", "floor-port", "int16x8", "rndnu", "rndnu16", "rndna", "q31",
    "tosa-scale16", "truncate", "avx2-int16", "hifi-out16", "fp32", "fp32-qnnpack", "fp32-away", "fp32-zp-inside",
    "fp64-away",
)  # fmt: skip
#: Canonical sweeps (their schemes and choices) and their digests, the same line on every back end.
SWEEPS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "range": (FIRST, {
        "pairs": 20_000, "seed": 1, "multiplier_range": (2.0**-34, 2.0**9), "distribution": "log-uniform",
    }),
    "range int8": (FIRST, {
        "pairs": 20_000, "seed": 2, "multiplier_range": (0.01, 0.99), "dtype": "int8", "zero_point": -7,
    }),
    "fixed": (FIRST, {
        "pairs": 20_000, "seed": 3, "multiplier": QuantizedMultiplier(1527099593, -6), "acc": "uniform",
    }),
    "fixed left": (FIRST, {"multiplier": QuantizedMultiplier(1527099593, 2), "acc": "all:-10000:10000"}),
    "scales": (FIRST, {
        "pairs": 20_000, "seed": 4, "scales": ISSUE, "dtype": "int8", "zero_point": -126, "acc": "normal:5e3",
    }),
    "vcvt": (("vcvt", "single", "double-up"), {
        "pairs": 20_000, "seed": 5, "multiplier_range": (2.0**-9, 2.0**8), "distribution": "log-uniform",
        "acc": "uniform:-255:255",
    }),
}  # fmt: skip
DIGESTS: dict[str, str] = {
    "range": "15f357635a898eab2309d5b7cb3c7672370d1c0ebf87d9b3f03b4e22b838adde",
    "range int8": "0d016eff481be3bac6d617a3097f0b254f168f0707145a3c402a1b62f2519eed",
    "fixed": "aead511500be0ba8c1ecdbf94b31b3763f73e1ef937de94b8add58184c707031",
    "fixed left": "bb8a42dc3d7c6317806f6e0656de2ae888d56d6996f4555c581b8730ab95c320",
    "scales": "1e6050f6ade4fce3028331d3b0b629928960134955fd115f7c4bcfca7d32bc2c",
    "vcvt": "48ab27c587087f2425dc9e721b039f5317215fb34ddf28fee1acde72c0466a7f",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check's outcome."""

    name: str
    passed: bool
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"name": self.name, "passed": self.passed, "detail": self.detail}


def structured_values() -> list[int]:
    """Return 0, +-2^i + {-2 .. 2} and the ends of int32: where roundings go wrong first."""
    values = {0, 2**31 - 1, -(2**31)}
    for i in range(32):
        values |= {sign * 2**i + d for sign in (1, -1) for d in range(-2, 3)}
    return sorted(v for v in values if -(2**31) <= v < 2**31)


MULTIPLIERS = (
    (1 << 30, 0), (1 << 30, -1), (2**31 - 1, -4), (1527099593, -6), (1518500250, -12), (1293543092, -8),
    (1431655765, -1), (1610612736, 1), (1610612736, -31),
)  # fmt: skip


def _philox() -> tuple[bool, str]:
    got = [tuple(int(w) for w in philox4x32_10(counter, key)) for counter, key, _ in PHILOX]
    return got == [expected for *_, expected in PHILOX], f"{len(PHILOX)} known answers of Random123"


def _issue() -> tuple[bool, str]:
    found = explain(585, scales=ISSUE, zero_point=-126, schemes=["single", "double", "fp32"])
    return (
        found.by_output() == {-119: ("single", "double"), -120: ("fp32",)},
        "acc 585 of tensorflow#102943: -119 in integers, -120 in float32",
    )


@functools.cache
def _expected(scheme: str, value: int, shift: int) -> tuple[list[int], list[int]]:
    """Return the structured accumulators inside a scheme's domain, and their specified int8 outputs."""
    inputs, outputs = [], []
    for acc in structured_values():
        try:
            outputs.append(spec.requantize(scheme, acc, QuantizedMultiplier(value, shift), -7, -128, 127))
        except DomainError:
            continue
        inputs.append(acc)
    return inputs, outputs


def _specification(backend: str) -> Callable[[], tuple[bool, str]]:
    def check() -> tuple[bool, str]:
        compared = 0
        for scheme in schemes():
            for value, shift in MULTIPLIERS:
                multiplier = QuantizedMultiplier(value, shift)
                inputs, expected = _expected(scheme.name, value, shift)
                if not inputs:
                    continue
                got = requantize(
                    np.array(inputs, np.int32),
                    multiplier,
                    scheme=scheme,
                    zero_point=-7,
                    dtype="int8",
                    backend=backend,
                )
                if got.tolist() != expected:
                    at = int(np.argmax(got != np.array(expected)))
                    return (
                        False,
                        f"{scheme.name}, {multiplier}, acc {inputs[at]}: {got[at]}, not {expected[at]}",
                    )
                compared += len(inputs)
        return True, f"{compared:,} outputs of {len(schemes())} schemes equal the specification"

    return check


def canonical_digest(name: str, backend: str) -> str:
    """Return the digest of a canonical sweep."""
    names, choices = SWEEPS[name]
    return sweep(*names, backend=backend, **choices).digest


def _digest(name: str, backend: str) -> Callable[[], tuple[bool, str]]:
    def check() -> tuple[bool, str]:
        got = canonical_digest(name, backend)
        return got == DIGESTS.get(name), f"canonical sweep {name!r}: {got[:16]}"

    return check


def run_checks(names: Iterable[str] | None = None) -> list[Check]:
    """Run every check on the back ends named, or on all that can serve here."""
    _expected.cache_clear()
    chosen = list(names) if names is not None else [n for n in backends.BACKENDS if not backends.unavailable(n)]
    plan: list[tuple[str, Callable[[], tuple[bool, str]]]] = [("philox", _philox), ("issue 102943", _issue)]
    for backend in chosen:
        backends.load(backend)
        plan.append((f"{backend}: schemes", _specification(backend)))
        plan += [(f"{backend}: sweep {name}", _digest(name, backend)) for name in SWEEPS]
    checks = []
    for title, check in plan:
        try:
            passed, detail = check()
        except Exception as error:
            passed, detail = False, f"{type(error).__name__}: {error}"
        checks.append(Check(title, passed, detail))
    return checks
