"""The CUDA back end on a GPU: each figure beside the limit that the same device shows in the same run.

Times are those of device events around many calls; arrays are far larger than any cache. Without a GPU every class
skips, with the reason.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import qengine as qe
from qengine import backends
from qengine.kernels.cuda import load

from . import common, peers

#: 2**28 accumulators are 1 GiB: twenty times the last cache of an H100.
ELEMENTS = 1 << (24 if common.QUICK else 28)
GOAL_OF_COPY = 0.92
SPECS = 8


def require_device() -> None:
    """Skip, as asv understands it, where there is no device."""
    reason = backends.unavailable("cuda")
    if reason is not None:
        raise NotImplementedError(reason)


def device_seconds(call: Callable[[], Any], rounds: int = 20) -> float:
    """Median seconds of a call between two events of the current stream, after two calls to warm up."""
    cuda = load.array_module().cuda
    call()
    call()
    taken = []
    for _ in range(5 if common.QUICK else rounds):
        start, stop = cuda.Event(), cuda.Event()
        start.record()
        call()
        stop.record()
        stop.synchronize()
        taken.append(cuda.get_elapsed_time(start, stop) / 1000)
    return statistics.median(taken)


def copy_bandwidth() -> float:
    """Bytes read and written a second by a copy on the device."""
    arrays = load.array_module()
    source = arrays.zeros(ELEMENTS, np.int32)
    target = arrays.empty_like(source)
    return 2 * source.nbytes / device_seconds(lambda: arrays.copyto(target, source))


def accumulators() -> Any:
    """`common.accumulators` on the device."""
    return load.array_module().asarray(common.accumulators(ELEMENTS))


def samples() -> Any:
    """Normal float32 samples on the device, one million of them again and again."""
    some = np.random.default_rng(2**18 + 4).standard_normal(1 << 20).astype(np.float32)
    return load.array_module().asarray(np.resize(some, ELEMENTS))


def _requantize(scheme: str, channels: int | None) -> tuple[Callable[[], Any], int]:
    acc = accumulators()
    out = load.array_module().empty(acc.shape, np.int8)
    if channels is None:
        return lambda: qe.requantize(acc, common.MULTIPLIER, scheme=scheme, dtype="int8", out=out), 5
    rows, target, multipliers = acc.reshape(-1, channels), out.reshape(-1, channels), common.channel_multipliers()
    return lambda: qe.requantize(rows, multipliers, scheme=scheme, dtype="int8", axis=1, out=target), 5


def _quantize(convention: str) -> tuple[Callable[[], Any], int]:
    x, params = samples(), qe.QuantParams(0.03, -3, -128, 127)
    out = load.array_module().empty(x.shape, np.int8)
    return lambda: qe.quantize(x, params, convention=convention, out=out), 5


def _dequantize(convention: str) -> tuple[Callable[[], Any], int]:
    params = qe.QuantParams(0.03, -3, -128, 127)
    codes = qe.quantize(samples(), params, convention=convention)
    out = load.array_module().empty(codes.shape, np.float32)
    return lambda: qe.dequantize(codes, params, convention=convention, out=out), 5


MATERIALIZED: dict[str, Callable[[], tuple[Callable[[], Any], int]]] = {
    "requantize single, one multiplier": lambda: _requantize("single", None),
    "requantize double, one multiplier": lambda: _requantize("double", None),
    "requantize fp32, one multiplier": lambda: _requantize("fp32", None),
    "requantize single, channels last": lambda: _requantize("single", common.CHANNELS),
    "requantize fp32, channels last": lambda: _requantize("fp32", common.CHANNELS),
    "quantize onnx": lambda: _quantize("onnx"),
    "quantize xnnpack": lambda: _quantize("xnnpack"),
    "quantize torch": lambda: _quantize("torch"),
    "dequantize xnnpack": lambda: _dequantize("xnnpack"),
}


class DeviceMaterialized:
    """Arrays in, arrays out: bytes a second over those of a copy."""

    params = (tuple(MATERIALIZED),)
    param_names = ("call",)
    timeout = 300

    def setup(self, name: str) -> None:
        require_device()
        self.call, self.bytes = MATERIALIZED[name]()

    @common.tracked("x copy", lambda *_: GOAL_OF_COPY)
    def track_share_of_copy(self, name: str) -> float:
        return ELEMENTS * self.bytes / device_seconds(self.call) / copy_bandwidth()


def _torch_requantize(torch: Any) -> Callable[[], Any]:
    acc, scale = torch.as_tensor(accumulators(), device="cuda"), float(np.float32(common.MULTIPLIER))
    return lambda: (acc.to(torch.float32) * scale).round().clamp(-128, 127).to(torch.int8)


def _torch_quantize(torch: Any) -> Callable[[], Any]:
    x = torch.as_tensor(samples(), device="cuda")
    return lambda: torch.quantize_per_tensor(x, 0.03, -3, torch.qint8)


def _torch_dequantize(torch: Any) -> Callable[[], Any]:
    q = _torch_quantize(torch)()
    return lambda: q.dequantize()


#: The same on the same device: a name of `MATERIALIZED`, and how one does it with torch.
TORCH: dict[str, Callable[[Any], Callable[[], Any]]] = {
    "requantize fp32, one multiplier": _torch_requantize,
    "quantize torch": _torch_quantize,
    "dequantize xnnpack": _torch_dequantize,
}


def device_torch() -> Any:
    """Return torch, or skip, as asv understands it, where it is missing or sees no device."""
    if find_spec("torch") is None:
        raise NotImplementedError("torch is not installed")
    torch = peers.torch_package()
    if not torch.cuda.is_available():
        raise NotImplementedError(f"torch {torch.__version__} sees no CUDA device")
    return torch


class DevicePeers:
    """Torch on the same device: how many times faster qengine is. Both work on the default stream."""

    params = (tuple(TORCH),)
    param_names = ("call",)
    timeout = 300

    def setup(self, name: str) -> None:
        require_device()
        self.theirs = TORCH[name](device_torch())
        self.ours, _ = MATERIALIZED[name]()

    @common.tracked("times", lambda name: 1.0)
    def track_times_faster_than_torch(self, name: str) -> float:
        return device_seconds(self.theirs) / device_seconds(self.ours)


class DeviceErrors:
    """Error statistics of several choices in one pass over a tensor."""

    params = ((1, SPECS), ("metrics", "counts too"))
    param_names = ("choices", "what")
    timeout = 300

    def setup(self, choices: int, what: str) -> None:
        require_device()
        self.x = samples()
        specs = [qe.QuantSpec(params=qe.QuantParams(0.02 + 0.002 * k, 0, -128, 127)) for k in range(choices)]
        self.call = lambda: qe.error_report(self.x, specs, histograms=what != "metrics")

    @common.tracked("G elements/s", lambda choices, what: 400 if (choices, what) == (SPECS, "metrics") else None)
    def track_rate(self, choices: int, what: str) -> float:
        return ELEMENTS / device_seconds(self.call, rounds=5) / 1e9


_ALL = {"multiplier": qe.QuantizedMultiplier(1527099593, -6)}
_TENTH = {"multiplier": 0.1}
#: Products of every accumulator stay below 2**22, as the loop without conversions needs.
_SMALL = {"multiplier": 0.0015}
#: schemes, options, pairs, goal in pairs a clock and multiprocessor, goal in pairs a second.
SWEEPS: dict[str, tuple[tuple[str, ...], dict[str, Any], int, float | None, float | None]] = {
    "every accumulator, single rndnu": (("single", "rndnu"), _TENTH, 1 << 32, 12.8, None),
    "every accumulator, single double": (("single", "double"), _ALL, 1 << 32, 24.0, None),
    "every accumulator, single fp32": (("single", "fp32"), _SMALL, 1 << 32, None, None),
    "multiplier a pair, single double": (
        ("single", "double"), {"multiplier_range": (0.01, 0.99)}, 1 << 34, None, 0.5e12,
    ),
    "table of scales, single double": (
        ("single", "double"), {"scales": common.SAMPLE_SCALES}, 1 << 34, None, None,
    ),
}  # fmt: skip


class DeviceSweep:
    """Whole sweeps, from choices to result, on one device."""

    params = (tuple(SWEEPS),)
    param_names = ("sweep",)
    timeout = 600

    def setup(self, name: str) -> None:
        require_device()
        schemes, options, pairs, _, _ = SWEEPS[name]
        pairs = min(pairs, 4 * ELEMENTS) if common.QUICK else pairs
        if "multiplier" in options:
            options = options | {"acc": f"all:{-pairs // 2}:{pairs // 2 - 1}"}
        else:
            options = options | {"pairs": pairs}
        self.pairs = pairs
        self.call = lambda: qe.sweep(*schemes, seed=42, backend="cuda", threads=1, **options)

    def _rate(self) -> float:
        return self.pairs / min(common.best_seconds(self.call, rounds=3, budget=2.0))

    @common.tracked("T pairs/s", lambda name: None if SWEEPS[name][4] is None else SWEEPS[name][4] / 1e12)
    def track_pairs(self, name: str) -> float:
        return self._rate() / 1e12

    @common.tracked("pairs/clk/SM", lambda name: SWEEPS[name][3])
    def track_pairs_a_clock(self, name: str) -> float:
        return self._rate() / (load.multiprocessors() * clock_rate())


#: schemes, goal in G multipliers a second: each of them settles 2**32 accumulators.
CENSUSES: dict[str, tuple[tuple[str, str], float | None]] = {
    "single double": (("single", "double"), 4.0),
    "single rndnu": (("single", "rndnu"), None),
    "single fp32": (("single", "fp32"), None),
    "fp32 fp64-away": (("fp32", "fp64-away"), None),
}


class DeviceCensus:
    """All mantissas of one shift, int8 outputs, every accumulator: from choices to result."""

    params = (tuple(CENSUSES),)
    param_names = ("schemes",)
    timeout = 300

    def setup(self, name: str) -> None:
        require_device()
        schemes, _ = CENSUSES[name]
        self.multipliers = min(1 << 30, ELEMENTS) if common.QUICK else 1 << 30
        last = (1 << 30) + self.multipliers - 1
        self.call = lambda: qe.census(*schemes, shift=-8, multipliers=(1 << 30, last), backend="cuda")

    @common.tracked("G multipliers/s", lambda name: CENSUSES[name][1])
    def track_multipliers(self, name: str) -> float:
        return self.multipliers / min(common.best_seconds(self.call, rounds=3, budget=2.0)) / 1e9


class DeviceStaircases:
    """All pairs of six schemes over many channels, int8 outputs, every accumulator."""

    params = ((1 << 12, 1 << 16),)
    param_names = ("channels",)
    timeout = 300

    def setup(self, channels: int) -> None:
        require_device()
        self.channels = min(channels, ELEMENTS >> 8) if common.QUICK else channels
        multipliers = common.channel_multipliers(self.channels)
        schemes = ("single", "double", "double-up", "fp32", "fp32-zp-inside", "fp64-away")
        self.call = lambda: qe.compare_schemes(*schemes, multiplier=multipliers, dtype="int8", backend="cuda")

    @common.tracked("M channels/s")
    def track_channels(self, channels: int) -> float:
        return self.channels / min(common.best_seconds(self.call, rounds=3, budget=2.0)) / 1e6


def clock_rate() -> float:
    """Clock of the multiprocessors in Hz while they work: cycles that a busy thread counts, over its time."""
    from . import device_rates

    return device_rates.clock_rate()
