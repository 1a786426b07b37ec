"""Sweeps on a device: which kernel counts which plan, every count, witnesses, and workers on several devices."""

from __future__ import annotations

import functools
import gc
import itertools
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine import backends, selftest
from qengine.kernels.codes import BINS, DIFFERENCE_LIMIT, GROUP, RUN
from qengine.kernels.cuda import sources
from qengine.kernels.cuda import sweep as kernels
from qengine.kernels.reference import sweep as reference
from qengine.sweeps.plan import make_plan
from qengine.sweeps.tally import Tally
from qengine.sweeps.work import Work, make_work
from tests.sweeps.plans import ALL, LEFT, NONE, RIGHT, TAME, USUAL, drawn, table, work
from tests.sweeps.test_tiles import assert_consistent, assert_same

from .device import Cuda, HostDevice, install

Device = HostDevice | Cuda


def tile(w: Work, start: int, stop: int) -> dict[str, np.ndarray]:
    """A tile on the device, checked against the reference."""
    got = backends.load("cuda").sweep_tile(w, start, stop)
    assert_same(got, reference.tile(w, start, stop))
    assert_consistent(got, stop - start)
    return got


def small(*schemes: str, **options: Any) -> Work:
    return make_work(make_plan(schemes, **{"pairs": 20_000, "seed": 99, **options}))


# ---------------------------------------------------------------------------------------------------------
# Two schemes: kernels of their own

#: Plans that a kernel of its own counts: its name, and what it is for.
FAST: dict[str, tuple[str, tuple[str, str], dict[str, Any]]] = {
    "range": ("range_floor", ("single", "double"), {"multipliers": USUAL}),
    "range, other order": ("range_floor", ("half-away", "double-up"), {"multipliers": USUAL}),
    "range, no ties": ("range_floor", ("truncate", "single"), {"multipliers": drawn(0.1, 30.0)}),
    "range, wrong port": ("range_floor", ("floor-port", "double"), {"multipliers": drawn(2.0**-20, 3.0)}),
    "range, full": ("range_floor", ("single", "half-away"), {
        "multipliers": drawn(2.0**-29.5, 0.999), "accumulators": "uniform",
    }),
    "range, one value": ("range_floor", ("single", "double"), {"multipliers": USUAL, "accumulators": "uniform:-7:-7"}),
    "range, float": ("range_float", ("single", "fp32"), {"multipliers": USUAL}),
    "range, float first": ("range_float", ("fp32", "double"), {"multipliers": USUAL}),
    "range, float, far apart": ("range_float", ("fp32-qnnpack", "single"), {
        "multipliers": drawn(0.5, 1.0), "accumulators": "uniform:-1073741824:1073741823",
    }),
    "range, far apart": ("range_floor", ("truncate", "avx2-int16"), {"multipliers": drawn(0.3, 1.9)}),
    "drawn, logarithm": ("drawn_floor", ("single", "double"), {"multipliers": drawn(0.001, 20.0, "log-uniform")}),
    "drawn, int8": ("drawn_floor", ("double", "single"), {"multipliers": USUAL, "dtype": "int8", "zero_point": -7}),
    "drawn, int16": ("drawn_float", ("fp32", "single"), {"multipliers": USUAL, "dtype": "int16", "zero_point": 5}),
    "drawn, saturated": ("drawn_floor", ("hifi-out16", "single"), {"multipliers": USUAL}),
    "drawn, odd span": ("drawn_float", ("single", "fp32"), {
        "multipliers": USUAL, "accumulators": "uniform:-70000000:99999",
    }),
    "drawn, normal": ("drawn_floor", ("half-away", "truncate"), {
        "multipliers": USUAL, "accumulators": "output-normal:30", "dtype": "uint8", "zero_point": 128,
    }),
    "one": ("word_floor", ("single", "double"), {"multipliers": RIGHT, "accumulators": "uniform"}),
    "one, narrow": ("word_floor", ("floor-port", "half-away"), {
        "multipliers": NONE, "accumulators": "uniform:-512:511",
    }),
    "one, float": ("word_float", ("fp32", "single"), {"multipliers": RIGHT, "accumulators": "uniform"}),
    "one, 24 bits": ("word_floor", ("rndnu", "tosa-scale16"), {"multipliers": RIGHT, "accumulators": "uniform"}),
    "one, left": ("word_float", ("single", "fp32"), {
        "multipliers": LEFT, "accumulators": "uniform:-134217728:134217727",
    }),
    "one, far apart": ("word_floor", ("int16x8", "single"), {"multipliers": NONE, "accumulators": "uniform"}),
    "channels": ("table_floor", ("single", "double"), {"multipliers": table(TAME, [-128, -7, 0, 5, 127, 3, -1])}),
    "channels, float": ("table_float", ("double", "fp32"), {"multipliers": table(TAME), "dtype": "uint8"}),
    "channels, float first": ("table_float", ("fp32", "rndnu"), {
        "multipliers": table(TAME), "dtype": "int16", "accumulators": "uniform:-9999999:9999999",
    }),
    "channels, clamped": ("table_floor", ("truncate", "rndna"), {
        "multipliers": table([*TAME, 1.5, 0.9]), "qmin": -5, "qmax": 7, "accumulators": "uniform:-700:900",
    }),
    "odd span": ("table_floor", ("double", "single"), {"multipliers": RIGHT, "accumulators": "uniform:-99999:100000"}),
    "one, unsaturated": ("table_floor", ("single", "double"), {"multipliers": RIGHT, "dtype": "int8", "zero_point": 9}),
    "many channels": ("table_floor", ("single", "double"), {
        "multipliers": table([0.001 * k for k in range(1, 101)]), "accumulators": "uniform:-5000:5001",
    }),
}  # fmt: skip
#: Tiles with whole groups, with parts of groups on either side, without a whole one, far away.
CUTS = ((0, 6 * GROUP), (700, 5 * GROUP + 3), (10, 2 * GROUP - 1), (2**45 + 7, 2**45 + 4 * GROUP + 2000))


@pytest.mark.parametrize("name", FAST)
def test_kernels_of_their_own(name: str, device: Device) -> None:
    kernel, schemes, options = FAST[name]
    w = small(*schemes, **options)
    for start, stop in CUTS:
        if isinstance(device, HostDevice):
            device.launches.clear()
        tile(w, start, stop)
        if isinstance(device, HostDevice):
            used = {launched for _, launched in device.launches}
            assert (f"sweep_{kernel}" in used) == (stop // GROUP > -(-start // GROUP))


@pytest.mark.parametrize(
    ("schemes", "options"),
    [
        (("single", "double", "half-away"), {"multipliers": USUAL}),
        (("double", "single", "fp32", "truncate"), {"multipliers": RIGHT, "accumulators": "uniform"}),
        (("fp32", "single", "double"), {"multipliers": table(TAME)}),
    ],
)
def test_a_kernel_for_each_of_a_few_couples(schemes: tuple[str, ...], options: Any, device: Device) -> None:
    w = small(*schemes, **options)
    tile(w, 500, 4 * GROUP)
    if isinstance(device, HostDevice):
        couples = len(schemes) * (len(schemes) - 1) // 2
        names = [name for _, name in device.launches if name not in ("sweep_any", "sweep_witnesses")]
        assert len(names) == couples


def test_differences_of_every_size_are_counted(device: Device) -> None:
    """The kernels for two schemes count differences from -1 to 2 apart from the others: both kinds are there."""
    sizes = set()
    for name in ("range, float, far apart", "range, far apart", "one, far apart", "one, left"):
        _, schemes, options = FAST[name]
        cells = tile(small(*schemes, **options), 0, 4 * GROUP)["differences"][0]
        sizes |= set((np.flatnonzero(cells) - DIFFERENCE_LIMIT - 1).tolist())
    assert {-65, -2, -1, 1, 2, 3, 65} <= sizes


@pytest.mark.parametrize(
    ("schemes", "options"),
    [
        (("single", "fp32-away"), {"multipliers": USUAL}),
        (("fp32", "fp32-zp-inside"), {"multipliers": USUAL}),
        (("rndnu", "single"), {"multipliers": USUAL}),
        (("single", "double"), {"multipliers": drawn(2.0**-31.5, 0.5)}),
        (("single", "double"), {"multipliers": RIGHT, "accumulators": "normal:700"}),
        (("single", "double"), {"multipliers": table(TAME), "accumulators": "uniform"}),
        (("single", "double"), {"multipliers": LEFT, "accumulators": "uniform"}),
        (("single", "double", "fp32", "fp32-away"), {"multipliers": USUAL}),
        (("single", "double", "fp32", "half-away", "truncate"), {"multipliers": USUAL}),
    ],
)
def test_other_plans_take_the_kernel_for_any(schemes: tuple[str, ...], options: Any, stand_in: HostDevice) -> None:
    w = small(*schemes, **options)
    tile(w, 100, 3 * GROUP)
    assert {launched for _, launched in stand_in.launches} <= {"sweep_any", "sweep_witnesses"}


# ---------------------------------------------------------------------------------------------------------
# Many schemes, many segments


def test_numbers_of_both_sides() -> None:
    """What the kernels' text and its Python both state."""
    texts = sources.texts()
    defined = dict(
        re.findall(r"^#define QE_(\w+) (\d+)\b", texts["sweep_cells.cuh"] + texts["draws.cuh"], re.MULTILINE)
    )
    for name, number in (
        ("GROUP", GROUP), ("RUN", RUN), ("LIMIT", DIFFERENCE_LIMIT), ("MOST_BINS", BINS), ("THREADS", kernels.THREADS),
        ("MOST_SCHEMES", kernels.SCHEMES), ("MOST_CELLS", kernels.CELLS),
    ):  # fmt: skip
        assert int(defined[name]) == number, name
    widest = kernels.FIXED_CELLS + 2 * (BINS + 1)
    assert kernels.CELLS // widest >= 1
    sizes = re.findall(r"static_assert\(sizeof\((\w+)\) == (\d+)", "".join(texts.values()))
    for name in ("PLAN", "SOURCE", "SCHEME", "SLOT", "COUPLE"):
        assert (name.title(), str(getattr(kernels, name).itemsize)) in sizes, name


@pytest.mark.parametrize("most", [1, 5, 16, 200])
@pytest.mark.parametrize("schemes", [2, 3, 16, 17, 21, 40])
def test_chunks_hold_every_couple_once(schemes: int, most: int) -> None:
    found = kernels.chunks(schemes, most)
    assert sorted(itertools.chain.from_iterable(found)) == list(itertools.combinations(range(schemes), 2))
    for couples in found:
        assert len(couples) <= most
        assert len({k for couple in couples for k in couple}) <= kernels.SCHEMES


def test_more_schemes_than_one_launch_takes(stand_in: HostDevice) -> None:
    assert len(ALL) > kernels.SCHEMES
    tile(work("range, far, raw"), 0, 3000)
    assert stand_in.launches.count(("sweep", "sweep_any")) > 1


def test_segments() -> None:
    for start, stop in ((0, 0), (5, 6), (0, 10**6), (2047, 2049), (123, 2**40), (2**61, 2**61 + 2**33)):
        for processors in (1, 132):
            size, count = kernels._segments(start, stop, processors)
            first = start // GROUP * GROUP
            assert size % GROUP == 0
            assert 0 < size < 2**32
            assert first + size * count >= stop
            assert count == 1 or first + size * (count - 1) < stop
            assert count <= max(kernels.BLOCKS * processors, -(-(stop - first) // 2**31))


@pytest.mark.parametrize("name", ["range", "one", "channels"])
def test_any_number_of_segments(name: str, monkeypatch: pytest.MonkeyPatch, stand_in: HostDevice) -> None:
    _, schemes, options = FAST[name]
    w = small(*schemes, witnesses=40, **options)
    for blocks in (1, 2, 3, 7, 500):
        monkeypatch.setattr(kernels, "BLOCKS", blocks)
        tile(w, 1000, 9 * GROUP + 77)


# ---------------------------------------------------------------------------------------------------------
# Witnesses


@pytest.mark.parametrize("count", [0, 1, 9, 10_000])
def test_witnesses(count: int, monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    """Dense and sparse ones, few and more than there are, across segments."""
    monkeypatch.setattr(kernels, "BLOCKS", 3)
    monkeypatch.setattr(kernels, "TASKS", 2)
    for schemes in (("truncate", "single"), ("single", "half-away"), ("double", "single", "truncate")):
        w = small(*schemes, multipliers=drawn(0.2, 0.9), witnesses=count)
        assert tile(w, 300, 10 * GROUP)["witnesses"].shape[1] == count


def test_no_witnesses_are_looked_for_where_nothing_differs(stand_in: HostDevice) -> None:
    w = small("fp32", "fp32-qnnpack", multipliers=RIGHT, accumulators="uniform:-100:100")
    tile(w, 0, 5000)
    before = stand_in.waits
    tile(w, 0, 5000)
    assert stand_in.waits == before + 1  # for the counts
    assert ("sweep", "sweep_witnesses") not in stand_in.launches


# ---------------------------------------------------------------------------------------------------------
# The public sweep


@pytest.mark.parametrize("name", selftest.SWEEPS)
def test_canonical_digest(name: str, stand_in: HostDevice) -> None:
    assert selftest.canonical_digest(name, "cuda") == selftest.DIGESTS[name]


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], HostDevice]]:
    """``several(n)``: n devices in host memory."""
    yield lambda devices: install(HostDevice(order=1, devices=devices), monkeypatch)
    backends.load.cache_clear()
    backends._serving.discard("cuda")


CHOICES: dict[str, dict[str, Any]] = {
    "range": {"multiplier_range": (0.01, 0.99)},
    "table": {"scales": (0.02, np.array([0.001, 0.3, 0.02], np.float32), 0.03)},
    "all": {"multiplier": qe.QuantizedMultiplier(1_395_864_371, -6), "acc": "all:-9000:8999"},
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_tiles_are_split_over_devices(
    name: str, devices: int, several: Callable[[int], HostDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every device works, each in a thread of its own, and the result is the one of the reference."""
    host, used, meet, threads = several(devices), set(), threading.Barrier(devices), set()
    true = kernels.tile

    def remember(w: Work, start: int, stop: int) -> Any:
        if start < stop:
            threads.add(threading.get_ident())
        if start < stop and host.device_number() not in used:
            used.add(host.device_number())
            meet.wait(60)  # until each device has a tile
        return true(w, start, stop)

    monkeypatch.setattr(kernels, "tile", remember)
    choice = {"seed": 5, **CHOICES[name]}
    if "acc" not in choice:
        choice["pairs"] = 18_000
    expected = qe.sweep("single", "double", "fp32", backend="reference", **choice)
    got = qe.sweep("single", "double", "fp32", backend="cuda", tile_pairs=2500, **choice)
    assert got.digest == expected.digest
    assert got.workers == devices
    assert used == set(range(devices))
    # One worker is the caller's thread, whose stream is the current one; several have threads of their own.
    assert (threads == {threading.get_ident()}) == (devices == 1)


def test_one_worker_stays_on_the_device_of_its_caller(
    several: Callable[[int], HostDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, seen = several(3), []
    true = kernels.tile

    def remember(w: Work, start: int, stop: int) -> Any:
        seen.append(host.device_number())
        return true(w, start, stop)

    monkeypatch.setattr(kernels, "tile", remember)
    with host.device(2):
        qe.sweep("single", "double", multiplier_range=(0.1, 0.9), pairs=5000, backend="cuda", threads=1)
    assert set(seen) == {2}


def test_tiles_merge(device: Device) -> None:
    w = small("single", "fp32", multipliers=USUAL, witnesses=30)
    cuda = functools.partial(backends.load("cuda").sweep_tile, w)
    whole = Tally.of(reference.tile(w, 0, 20_000), 20_000)
    merged = Tally.of(cuda(0, 0), 0)
    for start in range(0, 20_000, 3001):
        stop = min(start + 3001, 20_000)
        merged = merged.merged(Tally.of(cuda(start, stop), stop - start))
    assert merged.describe() == whole.describe()


def test_a_sweep_leaves_nothing_on_the_device(stand_in: HostDevice) -> None:
    w = small("single", "fp32", multipliers=USUAL)
    tile(w, 0, 500)
    assert w in kernels._there
    here, others = weakref.ref(w), len(kernels._there) - 1
    del w
    gc.collect()
    assert here() is None
    assert len(kernels._there) <= others
