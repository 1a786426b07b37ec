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
    "census": ".exact.census",
    "compare_schemes": ".exact.divergence",
    "count_divergence": ".exact.divergence",
    "divergent_inputs": ".exact.divergence",
    "probes": ".exact.probes",
    "identify": ".identification.identify",
    "QuantParams": ".affine.params",
    "QuantSpec": ".affine.spec",
    "Histogram": ".affine.histogram",
    "choose_qparams": ".affine.calibrate",
    "quantize": ".affine.quantize",
    "dequantize": ".affine.quantize",
    "fake_quantize": ".affine.quantize",
    "error_report": ".affine.error_report",
    "conventions": ".affine.conventions",
    "get_convention": ".affine.conventions",
    "formats": ".affine.formats",
    "get_format": ".affine.formats",
    "encode": ".affine.blocks",
    "decode": ".affine.blocks",
    "quantize_blocks": ".affine.blocks",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from .affine.blocks import decode, encode, quantize_blocks
    from .affine.calibrate import choose_qparams
    from .affine.conventions import conventions, get_convention
    from .affine.error_report import error_report
    from .affine.formats import formats, get_format
    from .affine.histogram import Histogram
    from .affine.params import QuantParams
    from .affine.quantize import dequantize, fake_quantize, quantize
    from .affine.spec import QuantSpec
    from .backends import use_backend
    from .exact.census import census
    from .exact.divergence import compare_schemes, count_divergence, divergent_inputs
    from .exact.probes import probes
    from .exceptions import (
        BackendError,
        DomainError,
        DTypeError,
        InputFileError,
        QEngineError,
        UnknownNameError,
    )
    from .identification.identify import identify
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
