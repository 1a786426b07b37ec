"""The exact arithmetic of quantized neural-network inference.

Names are loaded on first use: ``import qengine`` imports neither numpy nor numba nor cupy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

_HOME = {
    "BackendError": ".exceptions",
    "DTypeError": ".exceptions",
    "DomainError": ".exceptions",
    "InputFileError": ".exceptions",
    "QEngineError": ".exceptions",
    "UnknownNameError": ".exceptions",
    "QuantizedMultiplier": ".requant.multiplier",
    "quantize_multiplier": ".requant.multiplier",
    "quantize_multiplier_smaller_than_one": ".requant.multiplier",
    "quantize_multiplier_greater_than_one": ".requant.multiplier",
    "requantize": ".requant.requantize",
    "requantize_scales": ".requant.requantize",
    "get_scheme": ".requant.schemes",
    "schemes": ".requant.schemes",
    "use_backend": ".backends",
    "explain": ".requant.explain",
    "sweep": ".sweeps.sweep",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from .backends import use_backend
    from .exceptions import (
        BackendError,
        DomainError,
        DTypeError,
        InputFileError,
        QEngineError,
        UnknownNameError,
    )
    from .requant.explain import explain
    from .requant.multiplier import (
        QuantizedMultiplier,
        quantize_multiplier,
        quantize_multiplier_greater_than_one,
        quantize_multiplier_smaller_than_one,
    )
    from .requant.requantize import requantize, requantize_scales
    from .requant.schemes import get_scheme, schemes
    from .sweeps.sweep import sweep


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
