"""The CUDA error pass on the host: the suites of the other back ends, run on the stand-in for a device."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from tests.affine import test_error_report, test_metrics

from .device import HostDevice

#: What is measured at length elsewhere, or beyond a minute here.
ELSEWHERE = {
    "test_reference_and_cpu", "test_block_formats", "test_channels_against_the_oracle", "test_scaled_elements",
    "test_groups_along_every_axis", "test_bad_specs", "test_what_is_no_tensor_of_reals",
    "test_every_convention_and_rule", "test_percentiles_are_within_a_bin", "test_mixed_magnitudes",
    "test_five_thousand_samples", "test_to_dict_is_json", "test_nonfinite_samples_are_left_out",
    "test_overflow_to_nan_or_infinity_is_counted_and_left_out", "test_errors_on_an_edge",
}  # fmt: skip


@pytest.fixture
def backend(stand_in: HostDevice) -> str:
    return "cuda"


@pytest.fixture
def other_backend(stand_in: HostDevice) -> str:
    return "cuda"


def _of_a_back_end(module: ModuleType) -> dict[str, object]:
    return {
        name: function
        for name, function in vars(module).items()
        if name.startswith("test_")
        and name not in ELSEWHERE
        and {"backend", "other_backend"} & set(inspect.signature(function).parameters)
    }


globals().update(_of_a_back_end(test_metrics))
globals().update(_of_a_back_end(test_error_report))
long, small_tiles = test_error_report.long, test_error_report.small_tiles
