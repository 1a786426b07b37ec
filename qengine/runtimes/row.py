"""What a profile is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..requant.schemes import get_scheme
from .arithmetic import Scheme
from .fronts import FRONTS

X86, ARM = "x86-64", "aarch64"


@dataclass(frozen=True, slots=True)
class Body:
    """Where vector code ends: whole groups of `width` along `along`; the rest runs the profile of variant `rest`.

    `along` is ``elements`` (of the tensor in C order) or ``channels`` (the last axis).
    """

    width: int
    along: str
    rest: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What stands behind a row.

    Attributes
    ----------
    rows : int
        Recorded outputs that the arithmetic reproduced; 0 mismatches always.
    date : str
        When they were recorded.
    how : str
        On what, and what limits the evidence.
    """

    rows: int
    date: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one operator of one runtime computes.

    Attributes
    ----------
    runtime, versions : str, tuple of str
        Versions on which it was measured, oldest first.
    isa, op, path : str
        ``x86-64`` or ``aarch64``; the operator's name in the runtime; the resolver, engine or provider.
    variants : tuple of str
        Names of this row among the operator's variants; the first is canonical, ``""`` where there is one only.
    dtype, code_dtype : str
        Types of the output and of the inputs' codes.
    granularity : str
        ``per-channel``, ``per-tensor`` or ``elementwise``.
    front : str
        Key of `qengine.runtimes.fronts.FRONTS`: which columns there are.
    arithmetic : object
        Recipe, arithmetic and epilogue as data; `recipe`, `formula` and `epilogue` in words.
    body : Body or None
        SIMD body, where the rest of a tensor runs other arithmetic.
    evidence : Evidence
    source : str
        File and function of the runtime.
    """

    runtime: str
    versions: tuple[str, ...]
    isa: str
    op: str
    path: str
    variants: tuple[str, ...]
    dtype: str
    code_dtype: str
    granularity: str
    front: str
    arithmetic: Any
    body: Body | None
    evidence: Evidence
    source: str

    @property
    def variant(self) -> str:
        """Canonical name of the variant."""
        return self.variants[0]

    @property
    def delegated(self) -> bool:
        """Whether XNNPACK runs the operator: its path runs the optimized kernel where it declines."""
        return self.source.startswith("XNNPACK")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that have to be given."""
        return FRONTS[self.front].columns

    @property
    def acc_bits(self) -> int:
        """Width of the accumulators."""
        return get_scheme(self.arithmetic.scheme).acc_bits if isinstance(self.arithmetic, Scheme) else 32

    @property
    def recipe(self) -> str:
        """Real multiplier, from the stored float32 scales."""
        return str(self.arithmetic.describe().recipe)

    @property
    def formula(self) -> str:
        """Arithmetic before the epilogue."""
        return str(self.arithmetic.describe().formula)

    @property
    def epilogue(self) -> str:
        """Zero point and clamp."""
        return str(self.arithmetic.describe().epilogue)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data for JSON."""
        names = ("runtime", "isa", "op", "path", "variant", "dtype", "code_dtype", "granularity")
        body, evidence = self.body, self.evidence
        return {
            **{name: getattr(self, name) for name in names},
            "versions": list(self.versions), "variants": list(self.variants), "columns": list(self.columns),
            "recipe": self.recipe, "formula": self.formula, "epilogue": self.epilogue,
            "body": body and {"width": body.width, "along": body.along, "rest": body.rest},
            "evidence": {"rows": evidence.rows, "date": evidence.date, "how": evidence.how},
            "source": self.source,
        }  # fmt: skip
