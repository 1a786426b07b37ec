"""The CUDA error pass on the host: the suites of the other back ends."""

from __future__ import annotations

from tests.affine import (
    reports,
    test_error_bits,
    test_error_formats,
    test_error_refusals,
    test_error_report,
    test_metrics,
)

from .suites import on_the_stand_in

#: What is measured at length elsewhere, or beyond a minute here.
ELSEWHERE = {
    "test_reference_and_cpu", "test_block_formats", "test_channels_against_the_oracle", "test_scaled_elements",
    "test_groups_along_every_axis", "test_bad_specs", "test_what_is_no_tensor_of_reals",
    "test_every_convention_and_rule", "test_percentiles_are_within_a_bin", "test_mixed_magnitudes",
    "test_five_thousand_samples", "test_to_dict_is_json", "test_nonfinite_samples_are_left_out",
    "test_overflow_to_nan_or_infinity_is_counted_and_left_out", "test_errors_on_an_edge",
}  # fmt: skip

SUITES = test_metrics, test_error_report, test_error_bits, test_error_formats, test_error_refusals
globals().update(on_the_stand_in(*SUITES, elsewhere=ELSEWHERE))
long, small_tiles = reports.long, reports.small_tiles
