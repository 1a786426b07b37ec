"""Every error that qengine raises on purpose.

::

    QEngineError
    ├── DomainError(ValueError)      a value outside what a scheme, a type or a parameter allows
    ├── DTypeError(TypeError)        an array or scalar of a type that is not accepted
    ├── UnknownNameError(ValueError) no scheme, recipe, back end ... of that name
    ├── InputFileError(ValueError)   a file that is missing or malformed; names the file and the line
    └── BackendError(RuntimeError)   a back end that was asked for and cannot serve

The texts say what was required, what came, where (the index), and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
        close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names)}."
        return cls(f"unknown {kind} {name!r}; {hint}")


class InputFileError(QEngineError, ValueError):
    """A file is missing or malformed."""


class BackendError(QEngineError, RuntimeError):
    """A back end that was asked for cannot serve."""
