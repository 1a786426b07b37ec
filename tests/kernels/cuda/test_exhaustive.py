"""Tiles over consecutive accumulators equal the reference's, every number of them; the proofs hold at every value."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine import QuantizedMultiplier
from qengine.kernels.cuda import exhaustive
from qengine.kernels.reference import sweep as reference
from qengine.sweeps.plan import Multipliers, make_plan
from qengine.sweeps.tally import Tally
from qengine.sweeps.work import Work, make_work
from tests.conftest import serving
from tests.sweeps import plans

from . import build
from .device import Cuda, HostDevice

Device = HostDevice | Cuda
LOW, HIGH = plans.INT32
INTEGER = ("single", "double", "double-up", "half-away", "floor-port", "int16x8", "truncate", "avx2-int16")
#: Multiplier, schemes, accumulators, clamp.
Q31 = ("rndnu", "rndna", "tosa-scale16", "q31")
MIXED = (*INTEGER, *Q31, "fp32")


def fixed(value: int, shift: int) -> Multipliers:
    return Multipliers(fixed=QuantizedMultiplier(value, shift))


#: Double rounding moves 316 of the 20,001 accumulators around 0.
NEAR_TIES = fixed(1_234_567_891, -5)

CASES: dict[str, tuple[tuple[str, ...], Multipliers, str, dict[str, Any]]] = {
    "right, across zero": (MIXED, NEAR_TIES, "all:-5003:4099", {}),
    "right, few ties": (INTEGER[:5], plans.RIGHT, "all:-5003:4099", {}),
    "right, low end": (INTEGER, plans.RIGHT, f"all:{LOW}:{LOW + 9001}", {}),
    "right, high end": (INTEGER, plans.RIGHT, f"all:{HIGH - 9001}:{HIGH}", {}),
    "no shift": (INTEGER, plans.NONE, f"all:{HIGH - 5000}:{HIGH}", {}),
    "one": (INTEGER, fixed(1 << 30, 1), "all:-4100:4100", {}),
    "left, and leaving the domains": (("single", "double", "floor-port"), plans.LEFT, "all:178956000:178959000", {}),
    "left, across zero": (MIXED[:7], plans.LEFT, "all:-4099:5003", {}),
    "largest mantissa, largest shift": (INTEGER, fixed(2**31 - 1, -31), f"all:{LOW}:{LOW + 4000}", {}),
    "smallest mantissa": (INTEGER[:5], fixed(1, 0), "all:-3000:3000", {}),
    "zero": (INTEGER, Multipliers(fixed=0.0), "all:-40:50", {}),
    "int8": (MIXED, plans.REAL, "all:-6000:6000", {"dtype": "int8", "zero_point": -128}),
    "int8, far from the codes": (MIXED, plans.REAL, "all:1000000:1100000", {"dtype": "int8", "zero_point": 3}),
    "uint8": (MIXED, plans.REAL, "all:-3000:3000", {"dtype": "uint8", "zero_point": 255}),
    "int16, narrow clamp": (
        MIXED, plans.REAL, "all:-5000:5000", {"dtype": "int16", "qmin": -5, "qmax": 300, "zero_point": 2},
    ),
    "int8, a left shift": (("single", "double", "fp32"), plans.LEFT, "all:-200:200", {"dtype": "int8"}),
    "own recipes": (("single", "fp32", "rndnu", "tosa-scale16"), plans.ONE, "all:-7000:7000", {"dtype": "int8"}),
    "float32 at its largest": (("single", "fp32"), fixed(1_431_655_765, -9), f"all:{HIGH - 9000}:{HIGH}", {}),
    "float32 at its lowest": (("fp32", "double"), fixed(1_431_655_765, -9), f"all:{LOW}:{LOW + 9000}", {}),
    "float32, ties": (("fp32", "half-away", "single"), fixed(1 << 30, -3), "all:-9001:9000", {}),
    "float32, below its numbers": (("fp32", "single"), Multipliers(fixed=2.0**-32), "all:-100:100", {}),
    "two of float32": (("fp32", "fp32-qnnpack"), plans.REAL, "all:-1000:1000", {"dtype": "int8"}),
    "saturated to int16 or not": (("hifi-out16", "single"), fixed(1_600_000_001, -7), "all:5600000:5660000", {}),
    "far apart": (("single", "tosa-scale16"), fixed(1_527_099_593, 0), f"all:{HIGH - 9000}:{HIGH}", {}),
    "other multipliers": (("single", "tosa-scale16"), fixed(1_527_099_593, 0), "all:-5000:90000", {}),
}  # fmt: skip


def work_of(
    schemes: tuple[str, ...], multipliers: Multipliers, accumulators: str, witnesses: int = 8, **clamp: Any
) -> tuple[Work, int]:
    plan = make_plan(
        schemes, pairs=None, seed=0, multipliers=multipliers, accumulators=accumulators, witnesses=witnesses,
        **clamp,
    )  # fmt: skip
    return make_work(plan), plan.pairs


def case(name: str, witnesses: int = 8) -> tuple[Work, int]:
    schemes, multipliers, accumulators, clamp = CASES[name]
    return work_of(schemes, multipliers, accumulators, witnesses, **clamp)


def assert_same(got: dict[str, Any], wanted: dict[str, Any], what: object = "") -> None:
    assert set(got) == set(wanted)
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        bad = np.argwhere(got[name] != array)
        where = [(tuple(at.tolist()), got[name][tuple(at)], array[tuple(at)]) for at in bad[:4]]
        assert not bad.size, f"{what} {name}: {where}"


@pytest.mark.parametrize("name", CASES)
def test_tiles_are_the_reference(name: str, device: Device) -> None:
    work, pairs = case(name)
    assert exhaustive.serves(work)
    assert_same(exhaustive.tile(work, 0, pairs), reference.tile(work, 0, pairs), name)


@pytest.mark.parametrize("name", ["right, across zero", "int8", "float32, ties", "left, and leaving the domains"])
def test_any_cut_gives_the_same(name: str, device: Device) -> None:
    work, pairs = case(name)
    whole = Tally.of(reference.tile(work, 0, pairs), pairs)
    cuts = sorted([0, 0, 1, 2, pairs // 3, min(pairs // 3 + 4096, pairs), pairs - 1, pairs])
    merged = Tally.of(exhaustive.tile(work, 0, 0), 0)
    for start, stop in itertools.pairwise(cuts):
        merged = merged.merged(Tally.of(exhaustive.tile(work, start, stop), stop - start))
    assert merged.describe() == whole.describe()


@pytest.mark.parametrize("run", [16, 64, 1024])
@pytest.mark.parametrize("name", ["right, across zero", "float32, ties", "saturated to int16 or not"])
def test_any_run_gives_the_same(name: str, run: int, stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a thread decide no number; what a thread sums up in the longest one does not overflow."""
    monkeypatch.setattr(exhaustive, "_run", lambda pairs: run)
    work, pairs = case(name)
    assert_same(exhaustive.tile(work, 0, pairs), reference.tile(work, 0, pairs), name)


@pytest.mark.parametrize(
    ("multiprocessors", "pairs", "run"),
    [(1, 0, 16), (1, 10**6, 64), (132, 10**6, 16), (132, 1 << 28, 128), (132, 1 << 32, 1024), (1, 1 << 40, 1024)],
)
def test_run(multiprocessors: int, pairs: int, run: int, stand_in: HostDevice) -> None:
    stand_in.processors = multiprocessors
    assert exhaustive._run(pairs) == run


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("multipliers", [plans.RIGHT, plans.REAL, fixed(1_234_567_891, -1)])
def test_saturating_loop(dtype: str, multipliers: Multipliers, device: Device) -> None:
    """Every accumulator evaluated, clamp in the loop: the same tally as with the clamped ones cut off."""
    schemes = ("single", "double", "double-up", "half-away", "floor-port")
    work, pairs = work_of(schemes, multipliers, "all:-9001:9002", dtype=dtype, zero_point=17)
    wanted = reference.tile(work, 0, pairs)
    assert exhaustive.serves(work, saturating=True)
    assert_same(exhaustive.tile(work, 0, pairs, saturating=True), wanted)
    assert_same(exhaustive.tile(work, 0, pairs), wanted)


def test_saturating_loop_is_run(stand_in: HostDevice) -> None:
    work, pairs = work_of(("single", "double"), plans.RIGHT, "all:500000:600000", dtype="int8")
    exhaustive.tile(work, 0, pairs)
    assert not stand_in.launches
    exhaustive.tile(work, 0, pairs, saturating=True)
    assert stand_in.launches == [("exhaustive", "exhaustive_packed")]


@pytest.mark.parametrize(
    ("schemes", "multipliers", "zero_point", "served"),
    [
        (("single", "double"), fixed(1_431_655_765, -25), 0, True),
        (("single", "double"), fixed(1_431_655_765, -25), 126, False),  # 126 * 2**56 + 2**61 leaves int64
        (("single", "double"), fixed(1_431_655_765, -24), 126, True),
        (("half-away", "floor-port"), fixed(1_431_655_765, -20), 0, True),
        (("single", "tosa-scale16"), fixed(1_527_099_593, 0), 0, False),  # far from the codes they differ by more
    ],
)
def test_what_the_saturating_loop_takes(
    schemes: tuple[str, ...], multipliers: Multipliers, zero_point: int, served: bool, stand_in: HostDevice
) -> None:
    work, _ = work_of(schemes, multipliers, plans.EVERY, dtype="int8", zero_point=zero_point)
    assert exhaustive.serves(work)
    assert exhaustive.serves(work, saturating=True) == served
    if served:
        for start in (0, (1 << 31) - 2000, (1 << 32) - 4000):
            got = exhaustive.tile(work, start, start + 4000, saturating=True)
            assert_same(got, reference.tile(work, start, start + 4000))


@pytest.mark.parametrize(
    ("more", "served"), [(0, True), ((1 << 36) - 1, True), (1 << 36, False), (-1, True), (-(1 << 36) - 1, False)]
)
def test_saturating_loop_wants_differences_of_one(more: int, served: bool) -> None:
    """Codes that differ by 2 have the same lowest bit."""
    left, right = (exhaustive.Part(0, 1000, 1_234_567_891, bias, 36) for bias in (more, 0))
    if served:
        assert list(exhaustive._packed([left], [right], -128))
    else:
        with pytest.raises(exhaustive._NotServedError):
            list(exhaustive._packed([left], [right], -128))


@pytest.mark.parametrize("witnesses", [0, 1, 700, 10_000])
@pytest.mark.parametrize("name", ["right, across zero", "int8", "float32, ties", "far apart"])
def test_witnesses(name: str, witnesses: int, stand_in: HostDevice) -> None:
    """From none to more than there are, over many blocks: the first ones, in order."""
    work, pairs = case(name, witnesses)
    assert_same(exhaustive.tile(work, 0, pairs), reference.tile(work, 0, pairs), name)


def test_rare_witnesses(stand_in: HostDevice) -> None:
    """One in 2**14: a block for nearly each of them, more blocks than are fetched at one time."""
    work, pairs = work_of(("single", "half-away"), fixed(1 << 30, -13), "all:-1600000:-1", witnesses=95)
    got = exhaustive.tile(work, 0, pairs)
    places = pairs - 8192 - 16384 * np.arange(98)[::-1]
    places = places[(places >= 0) & (places < pairs)]
    assert got["counts"].sum(axis=1).tolist() == [[pairs - places.size, places.size]]
    assert got["witnesses"].tolist() == [places[:95].tolist()]


def test_windows_are_used(stand_in: HostDevice) -> None:
    """Single against double rounding needs no outputs: the window of width 2**30."""
    work, pairs = work_of(("single", "double"), NEAR_TIES, "all:-20000:20000")
    exhaustive.tile(work, 0, pairs)
    kernels = [kernel for _, kernel in stand_in.launches]
    assert kernels == ["exhaustive_window", "exhaustive_floor_hits"]
    assert stand_in.waits == 2


def test_empty_tile_compiles(stand_in: HostDevice) -> None:
    """A sweep asks for one before it starts its clock."""
    work, _ = case("right, across zero")
    empty = exhaustive.tile(work, 77, 77)
    assert len(stand_in.launches) == 1
    assert_same(empty, reference.tile(work, 77, 77))


def test_known_differences_launch_nothing(stand_in: HostDevice) -> None:
    """Left shifts of single and double are one line; nothing differs where both saturate."""
    for multipliers, clamp in ((plans.LEFT, {}), (plans.RIGHT, {"dtype": "int8"})):
        work, pairs = work_of(("single", "double"), multipliers, "all:100000:200000", **clamp)
        got = exhaustive.tile(work, 0, pairs)
        assert got["counts"].sum(axis=1).tolist() == [[pairs, 0]]
    assert not stand_in.launches
    assert not stand_in.waits


def test_what_is_not_served() -> None:
    table = plans.table([0.3, 0.02])
    for schemes, multipliers, acc, clamp in (
        (("single", "double"), plans.RIGHT, "uniform", {}),
        (("single", "double"), table, "uniform", {"dtype": "int8"}),
        (("single", "double"), plans.USUAL, "uniform", {}),
        (("single", "fp64-away"), plans.RIGHT, "all:0:9", {}),
        (("single", "fp32-away"), plans.RIGHT, "all:0:9", {}),
        (("single", "rndnu16"), plans.REAL, "all:0:9", {"dtype": "int8"}),
        (("single", "fp32-zp-inside"), plans.REAL, "all:0:9", {"dtype": "int8"}),
        (("single", "fp32"), plans.RIGHT, plans.EVERY, {}),  # products up to 2**24
        (("single", "int16x8"), plans.NONE, plans.EVERY, {}),  # differences up to 2**15
    ):
        pairs = None if acc.startswith("all") else 9
        plan = make_plan(schemes, pairs=pairs, seed=0, multipliers=multipliers, accumulators=acc, witnesses=1, **clamp)
        assert not exhaustive.serves(make_work(plan)), (schemes, acc)


def test_served_over_all_accumulators() -> None:
    """What the fast loops are for: every int32 accumulator, raw and clamped."""
    for schemes, clamp in ((INTEGER[:5], {}), ((*INTEGER, *Q31, "fp32"), {"dtype": "int8", "zero_point": 5})):
        work, pairs = work_of(schemes, Multipliers(fixed=0.0037), plans.EVERY, **clamp)
        assert pairs == 2**32
        assert exhaustive.serves(work)
    small, _ = work_of(("single", "fp32"), Multipliers(fixed=0.0019), plans.EVERY)
    assert exhaustive.serves(small)


# ---- proofs: what a segment says of its differences, at its ends and inside, in exact integers ----------------


def allowed(segment: exhaustive.Segment) -> set[int]:
    return {
        exhaustive.KNOWN: {segment.low},
        exhaustive.PRODUCT: {segment.low - 1, segment.low, segment.low + 1},
    }.get(segment.kind, {segment.low, segment.low + 1})


def some(first: int, last: int, rng: np.random.Generator) -> list[int]:
    inside = [] if first > last else rng.integers(first, last, 40, endpoint=True).tolist()
    ends = [first, first + 1, first + 2, last - 2, last - 1, last]
    return [x for x in {*ends, *inside} if first <= x <= last]


def floor_of(part: exhaustive.Part, x: int) -> int:
    if part.scale is None:
        return (part.a * x + part.b) >> part.t
    return int(np.rint(np.float32(x) * np.float32(part.scale)))


def checked(parts: list[list[exhaustive.Part]], rng: np.random.Generator) -> int:
    segments = list(exhaustive._cut(*parts))
    first, last = parts[0][0].first, parts[0][-1].last
    assert [s.first for s in segments] == [first, *(s.last + 1 for s in segments[:-1])]
    assert segments[-1].last == last
    for segment in segments:
        for x in some(segment.first, segment.last, rng):
            values = [next(floor_of(p, x) for p in side if p.first <= x <= p.last) for side in parts]
            assert values[0] - values[1] in allowed(segment), (parts, x)
    return len(segments)


def test_lines_are_cut_where_their_difference_changes(rng: np.random.Generator) -> None:
    """Random mantissas, shifts and biases, near each other and far; adversarial ones with a whole difference."""
    cut = 0
    for _ in range(150):
        a, t = int(rng.integers(0, 2**31)), int(rng.integers(1, 63))
        b = int(rng.integers(-(2**61), 2**61)) >> int(rng.integers(0, 62))
        reach = min(2**31 - 1, (1 << min(t + 31, 62)) // max(a, 1))
        near = int(rng.integers(-3, 4))
        others = [
            (a, t, b + (1 << 30)), (a, t, b + near * (1 << t)), (a, t, b + near * (1 << (t - 1)) - 1),
            (min(max(a + near, 0), 2**31 - 1), t, b), (a >> 1, t - 1, b >> 1), (0, 1, 2 * int(rng.integers(-200, 200))),
        ]  # fmt: skip
        for a2, t2, b2 in others:
            if t2 < 1:
                continue
            x = int(rng.integers(-reach, reach)), int(rng.integers(-reach, reach))
            sides = [[exhaustive.Part(min(x), max(x), *numbers)] for numbers in ((a, b, t), (a2, b2, t2))]
            try:
                cut += checked(sides, rng) > 1
            except exhaustive._NotServedError:
                continue
    assert cut > 20


def test_products_are_within_one_of_their_middle(rng: np.random.Generator) -> None:
    for _ in range(200):
        scale = float(np.float32(2.0 ** rng.uniform(-40, 3)))
        reach = min(2**31 - 1, int(Fraction(exhaustive._LARGEST_PRODUCT) / Fraction(scale)))
        x = [int(v) for v in rng.choice([-reach, reach, 0, int(rng.integers(-reach, reach + 1))], 2, replace=False)]
        value, exponent = np.frexp(scale)
        t = 31 - int(exponent)
        a = round(float(value) * 2**31)
        if not 1 <= t <= 62 or a == 2**31:
            continue
        lines = [(a, 1 << (t - 1), t), (a, (1 << (t - 1)) - 1, t), (a, 0, t), (max(a - 3, 0), 1 << (t - 1), t)]
        product = exhaustive.Part(min(x), max(x), 0, 0, 1, scale)
        for numbers in lines:
            line = exhaustive.Part(min(x), max(x), *numbers)
            assert checked([[product], [line]], rng) >= 1
            assert checked([[line], [product]], rng) >= 1


def test_product_beyond_the_proof_is_refused() -> None:
    product = exhaustive.Part(0, (1 << 22) - 1, 0, 0, 1, 1.0)
    line = product._replace(scale=None)
    assert list(exhaustive._product(product, line._replace(a=2), False, 0, (1 << 22) - 1))
    with pytest.raises(exhaustive._NotServedError):
        list(exhaustive._product(product, line._replace(a=2), False, 0, 1 << 22))


def test_products_of_two_scales_are_refused() -> None:
    product = exhaustive.Part(0, 9, 0, 0, 1, 0.5)
    (segment,) = exhaustive._cut([product], [product])
    assert (segment.kind, segment.low) == (exhaustive.KNOWN, 0)
    with pytest.raises(exhaustive._NotServedError):
        list(exhaustive._cut([product], [product._replace(scale=0.25)]))


def test_clamps_are_cut_exactly(rng: np.random.Generator) -> None:
    """Parts with a clamp give the clamped result everywhere, at the two ends of it above all."""
    for _ in range(120):
        t = int(rng.integers(1, 50))
        numbers = int(rng.integers(0, 2**31)) >> int(rng.integers(0, 32)), int(rng.integers(-(2**t), 2**t)), t
        scale = None if rng.random() < 0.5 else float(np.float32(2.0 ** rng.uniform(-20, 100)))
        x = sorted(int(v) for v in rng.integers(LOW, HIGH, 2))
        part = exhaustive.Part(x[0], x[1], *numbers, scale)
        low, high = sorted(int(v) for v in rng.integers(-300, 300, 2))
        cut = exhaustive._line_parts if scale is None else exhaustive._product_parts
        parts = list(cut(part, low, high))
        assert [p.first for p in parts] == [part.first, *(p.last + 1 for p in parts[:-1])]
        assert parts[-1].last == part.last
        for piece in parts:
            for at in some(piece.first, piece.last, rng):
                with np.errstate(over="ignore"):
                    product = float(np.rint(np.float32(at) * np.float32(scale or 0.0)))
                value = floor_of(part, at) if scale is None else product
                assert floor_of(piece, at) == min(max(value, low), high), (part, at)


# ---- the arithmetic of a row, at the ends of what it may be ---------------------------------------------------


def test_rows_at_the_ends_of_int64(stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums near 2**63, the largest shift, thread sums of differences as far as a segment may have."""
    far = exhaustive._FARTHEST
    monkeypatch.setattr(exhaustive, "_run", lambda pairs: exhaustive.LONGEST_RUN)
    sides = [
        ((2**31 - 1, 2**61, 62), (2**31 - 1, -(2**61), 62)),
        ((2**31 - 1, -(2**61), 62), (2**31 - 1, 2**61 - 1, 62)),
        ((2**31 - 1, (far << 31) - 1, 31), (2**31 - 1, 0, 31)),
        ((1, -far * 2, 1), (1, -1, 1)),
    ]
    for left, right in sides:
        for first in (LOW, -1500, HIGH - 2999):
            last = first + 2999
            parts = [exhaustive.Part(first, last, *numbers) for numbers in (left, right)]
            segments = list(exhaustive._lines(*parts, first, last))
            x = np.arange(first, last + 1).astype(object)
            d = np.array([floor_of(parts[0], v) - floor_of(parts[1], v) for v in x])
            for kind in {s.kind for s in segments} - {exhaustive.KNOWN}:
                of_kind = [s for s in segments if s.kind == kind]
                counted = exhaustive.Counted(kind, of_kind, exhaustive.LONGEST_RUN)
                for (segment, _, _), cells in counted.fetch():
                    here = d[segment.first - first : segment.last - first + 1]
                    wanted = [int((here == segment.low + k).sum()) for k in (-1, 0, 1)]
                    assert cells.sum(axis=0).tolist() == wanted


@pytest.mark.parametrize("kind", [exhaustive.WINDOW, exhaustive.LINES])
def test_blocks_of_all_accumulators(kind: int, shim: Callable[..., build.Shim]) -> None:
    """One row from the lowest accumulator to the highest: its first blocks, those around 0, and its last ones."""
    a, t = 1_234_567_891, 36
    parts = [exhaustive.Part(LOW, HIGH, a, (1 << (t - 1)) + more, t) for more in (0, 1 << 30)]
    (segment,) = exhaustive._lines(*parts, LOW, HIGH)
    assert segment.kind == exhaustive.WINDOW
    run = exhaustive.LONGEST_RUN
    span = exhaustive.THREADS * run
    launched = exhaustive._Launched(segment._replace(kind=kind), 0, (1 << 32) // span)
    sums = np.zeros(launched.blocks, np.int64)
    table = exhaustive._table([launched]).ravel()
    for block in (0, launched.blocks // 2 - 1, launched.blocks // 2, launched.blocks - 1):
        shim("exhaustive").launch(
            exhaustive.KERNELS[kind], launched.blocks, exhaustive.THREADS, 1, table, run, sums,
            part=slice(block, block + 1),
        )  # fmt: skip
        x = LOW + block * span + np.arange(span, dtype=np.int64)
        y = [(part.a * x + part.b) >> part.t for part in parts]
        wanted = int((y[0] - y[1]).sum())
        assert wanted < 0
        assert sums[block] == (-wanted if kind == exhaustive.WINDOW else wanted)


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("schemes", "options"),
    [
        (("single", "double"), {}),
        (("single", "double", "double-up", "half-away"), {"dtype": "int8", "zero_point": -3}),
        (("single", "fp32"), {"multiplier": 0.0019}),
    ],
)
def test_all_accumulators_on_the_device(schemes: tuple[str, ...], options: dict[str, Any]) -> None:
    serving("cuda")
    given = {"multiplier": QuantizedMultiplier(1_527_099_593, -6), "acc": "all", **options}
    digests = {qe.sweep(*schemes, backend=name, **given).digest for name in ("cpu", "cuda")}
    assert len(digests) == 1


@pytest.mark.cuda
def test_saturating_loop_over_all_accumulators() -> None:
    serving("cuda")
    work, pairs = work_of(("single", "double"), plans.RIGHT, plans.EVERY, dtype="int8", zero_point=5)
    assert_same(exhaustive.tile(work, 0, pairs, saturating=True), exhaustive.tile(work, 0, pairs))


def test_columns_are_those_of_the_kernels() -> None:
    """The numbers of a row stand in the same order in both texts."""
    from qengine.kernels.cuda import sources

    text = sources.texts()["exhaustive.cu"].partition("enum Column")[2].partition("{")[2].partition("}")[0]
    names = [word.strip().removeprefix("ROW") for word in text.split(",")]
    module: types.ModuleType = exhaustive
    assert [getattr(module, name) for name in names] == list(range(exhaustive._ROW))
