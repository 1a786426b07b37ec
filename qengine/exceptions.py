"""Every error that qengine raises on purpose.

::

    QEngineError
    ├── DomainError(ValueError)      a value outside what a scheme, a type or a parameter allows
    ├── DTypeError(TypeError)        an array or scalar of a type that is not accepted
    ├── UnknownNameError(ValueError) no scheme, recipe, back end ... of that name
    ├── InputFileError(ValueError)   a file that is missing or malformed; names the file and the line
    ├── BackendError(RuntimeError)   a back end that was asked for and cannot serve
    └── ClusterError(RuntimeError)   a cluster that cannot serve, or is lost
        └── TileError                a part of the work that fails by itself, while others are done

The texts say what was required, what came, where (the index), and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: Characters of a value in a message.
_LONGEST = 200


def brief(value: object) -> str:
    """Return `repr` of a value for a message: on one line, cut where it is long, whatever the object is.

    Examples
    --------
    >>> brief(0.5), brief("x" * 1000)[-12:], brief(10**5000)
    ('0.5', 'xxxxxxxx ...', 'an integer of 16610 bits')
    """
    if isinstance(value, int) and value.bit_length() > _LONGEST:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a caller's class may do anything here
        text = f"an object of type {type(value).__name__}"
    return clipped(text)


def clipped(text: str) -> str:
    """Return a text for a message, cut where it is long."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


class QEngineError(Exception):
    """Base class of all errors raised on purpose."""


class DomainError(QEngineError, ValueError):
    """A value lies outside what the scheme, the type or the parameter allows."""


class DTypeError(QEngineError, TypeError):
    """An argument has a type that is not accepted."""


class UnknownNameError(QEngineError, ValueError):
    """There is no scheme, recipe or back end of that name."""

    @classmethod
    def of(cls, kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
        """Build the error for an unknown name, with the closest known names.

        Parameters
        ----------
        kind : str
            What `name` should be, e.g. ``"scheme"``.
        name : object
            What was given.
        known : iterable of str
            Names that exist.

        Returns
        -------
        UnknownNameError
        """
        names = sorted(known)
        close = difflib.get_close_matches(name[:_LONGEST], names, n=3, cutoff=0.5) if isinstance(name, str) else []
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names)}."
        return cls(f"unknown {kind} {brief(name)}; {hint}")


class InputFileError(QEngineError, ValueError):
    """A file is missing or malformed."""


class BackendError(QEngineError, RuntimeError):
    """A back end that was asked for cannot serve."""


class ClusterError(QEngineError, RuntimeError):
    """A cluster cannot serve, or is lost."""


class TileError(ClusterError):
    """A tile fails by itself, while others are done; the text has its range and what it is a tile of."""
