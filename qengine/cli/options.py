"""Options and parameter types that commands share."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from ..exceptions import brief

if TYPE_CHECKING:
    from rich.console import RenderableType

    _IntegerType = click.ParamType[int]
else:  # the class is generic in newer releases only
    _IntegerType = click.ParamType

_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
#: Characters of a count.
_LONGEST = 100
_POWER = re.compile(r"(\d+)(?:\^|\*\*)(\d+)")
_NUMBER = re.compile(r"(?P<digits>[\d_,]*\.?\d*(?:[eE]\+?\d+)?)(?P<suffix>[kKMGBT]?)")


def parse_count(text: str) -> int:
    """Read a whole number: ``33400000``, ``33.4M``, ``1e9``, ``2^32``, ``1_000``.

    Examples
    --------
    >>> from qengine.cli.options import parse_count
    >>> [parse_count(text) for text in ("33.4M", "1e9", "2^32", "1_000", "2.5k")]
    [33400000, 1000000000, 4294967296, 1000, 2500]
    >>> parse_count("-5")
    Traceback (most recent call last):
        ...
    ValueError: '-5' is not a count; write 33400000, 33.4M, 1e9 or 2^32
    """
    problem = ValueError(f"{brief(text)} is not a count; write 33400000, 33.4M, 1e9 or 2^32")
    stripped = text.strip()
    if len(stripped) > _LONGEST:  # the pattern below takes quadratic time
        raise problem
    power = _POWER.fullmatch(stripped)
    if power:
        base, exponent = int(power[1]), int(power[2])
        if exponent > 200 or base > 10**6:
            raise problem
        return int(base**exponent)
    match = _NUMBER.fullmatch(stripped)
    if not match or not any(c.isdigit() for c in match["digits"]):
        raise problem
    try:
        value = Decimal(match["digits"].replace("_", "").replace(",", ""))
    except InvalidOperation:
        raise problem from None
    if value.adjusted() > 60:
        raise problem
    value *= _SUFFIXES[match["suffix"].replace("K", "k")]
    if value != value.to_integral_value():
        raise ValueError(f"{brief(text)} is not a whole number")
    return int(value)


class Count(_IntegerType):
    """A whole number with suffixes and powers."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert the text of an option."""
        if isinstance(value, int):
            return value
        try:
            return parse_count(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Integer(_IntegerType):
    """An integer, negative too, written plainly or as ``2^20``."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert the text of an option."""
        if isinstance(value, int):
            return value
        try:
            return int(value)
        except ValueError:
            pass
        try:
            sign, rest = (-1, value[1:]) if value.startswith("-") else (1, value)
            return sign * parse_count(rest)
        except ValueError:
            self.fail(f"{brief(value)} is not an integer.", param, ctx)


def is_number(text: str) -> bool:
    """Tell whether a word of the command line is a real number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


class ScalesCommand(click.Command):
    """A command whose ``--scales`` takes one file or three numbers: three numbers become one token."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the numbers that follow ``--scales``, then parse as usual."""
        joined: list[str] = []
        i = 0
        while i < len(args):
            joined.append(args[i])
            i += 1
            first = joined[-1].removeprefix("--scales=")
            if first != joined[-1] and is_number(first):
                joined[-1:] = ["--scales"]
                args = [*args[:i], first, *args[i:]]
            if joined[-1] == "--scales":
                numbers = 0
                while numbers < 3 and i + numbers < len(args) and is_number(args[i + numbers]):
                    numbers += 1
                if numbers:
                    joined.append(",".join(args[i : i + numbers]))
                    i += numbers
        return super().parse_args(ctx, joined)


def parse_scales(text: str, takes: str = "a file or three numbers") -> str | tuple[float, float, float]:
    """Return the three scales, or the path of a file, that ``--scales`` was given."""
    cells = text.split(",")
    if all(is_number(cell) for cell in cells):
        if len(cells) != 3:
            raise click.BadParameter(f"takes {takes} S_IN S_W S_OUT; got {len(cells)}.", param_hint="--scales")
        return float(cells[0]), float(cells[1]), float(cells[2])
    return text


def parse_triple(text: str) -> tuple[float, float, float]:
    """Return the three scales that ``--scales`` was given, of a command that takes no file there."""
    triple = parse_scales(text, "three numbers")
    if isinstance(triple, str):
        raise click.BadParameter(f"takes three numbers S_IN S_W S_OUT; got {brief(text)}.", param_hint="--scales")
    return triple


def emit_json(data: Any) -> None:
    """Print data as JSON on stdout."""
    click.echo(json.dumps(data, indent=2, allow_nan=False))


def emit_json_list(data: dict[str, Any], name: str, items: Iterable[Any]) -> None:
    """Print data as `emit_json` does, with one more list at its end, whose items are made when they are printed."""
    click.echo(json.dumps(data, indent=2, allow_nan=False).removesuffix("\n}") + f',\n  "{name}": [', nl=False)
    between = "\n"
    for item in items:
        text = json.dumps(item, indent=2, allow_nan=False)
        click.echo(between + textwrap.indent(text, "    "), nl=False)
        between = ",\n"
    click.echo("]\n}" if between == "\n" else "\n  ]\n}")


def emit(parts: Iterable[RenderableType]) -> None:
    """Print tables on stdout."""
    from ..report.terminal import console

    out = console()
    for part in parts:
        out.print(part)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
cluster_option = click.option(
    "--cluster", metavar="ADDRESS",
    help="Work on a dask cluster: tcp://HOST:PORT or the file of its scheduler, or local:N for N processes here.",
)  # fmt: skip
