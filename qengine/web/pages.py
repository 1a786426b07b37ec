"""The pages: one row each, with the form, the API behind it, and what a browser without script is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ..models.source import TensorSource
from . import calculator, comparison, requantization, sweeping
from .answers import Answer
from .calculator import Calculated, Calculation
from .comparison import Compared, Comparison
from .form import Form
from .limits import Limits
from .requantization import Requantization
from .sweeping import Sweep
from .work import Token


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes
    ----------
    path, name, title, lead : str
        Address, word in the list of pages, headline, and what it is for.
    form : type of Form
    example : dict
        What "Load example" fills in.
    api : tuple of str
        Addresses that the script asks, in turn.
    action : str
        What the button says.
    measure : callable, optional
        Of pages with samples: (form, tensor, limits, token) -> what has `answer`, `csv`, `pdf` and `picture`.
    whole : callable, optional
        Of the others: (form, limits, token) -> Answer, everything at once.
    notes : str
        Template of the texts below.
    """

    path: str
    name: str
    title: str
    lead: str
    form: type[Form]
    example: dict[str, Any]
    api: tuple[str, ...]
    action: str
    notes: str
    measure: Callable[[Any, TensorSource, Limits, Token], Any] | None = None
    whole: Callable[[Any, Limits, Token], Answer] | None = None

    @property
    def slow(self) -> bool:
        """Whether it goes on for long on short input."""
        return self.measure is None


def _both(form: Requantization, limits: Limits, token: Token) -> Answer:
    return requantization.both(form, token)


def _swept(form: Sweep, limits: Limits, token: Token) -> Answer:
    return sweeping.swept(form, limits, token, lambda said: None)


CALCULATOR = Page(
    "/", "Calculator", "Quantization Error Calculator",
    "Try integer settings on your own tensor: see what every sample becomes, what is clipped, and what it costs.",
    Calculation, calculator.EXAMPLE, ("/api/analyze",), "Calculate", "notes_calculator.html",
    measure=cast(Any, Calculated.of),
)  # fmt: skip
COMPARE = Page(
    "/compare", "Compare", "Compare settings",
    "The same samples under many ranges, mappings, bit depths, roundings and formats, side by side.",
    Comparison, comparison.EXAMPLE, ("/api/compare",), "Compare", "notes_compare.html",
    measure=cast(Any, Compared.of),
)  # fmt: skip
REQUANTIZE = Page(
    "/requantize", "Requantize", "Requantization, scheme by scheme",
    "One accumulator under the arithmetic of every runtime: each step, each output, and exactly how often two differ.",
    Requantization, requantization.EXAMPLE, ("/api/explain", "/api/count"), "Calculate", "notes_requantize.html",
    whole=_both,
)  # fmt: skip
SWEEP = Page(
    "/sweep", "Sweep", "Sweep",
    "How often two schemes disagree over millions of pairs of multiplier and accumulator. The seed fixes every pair.",
    Sweep, sweeping.EXAMPLE, ("/api/sweep",), "Start", "notes_sweep.html", whole=_swept,
)  # fmt: skip
PAGES = (CALCULATOR, COMPARE, REQUANTIZE, SWEEP)
