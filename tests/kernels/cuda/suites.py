"""The suites of the other back ends, run on the stand-in for a device."""

from __future__ import annotations

import inspect
from collections.abc import Set
from types import ModuleType

import pytest

from .device import HostDevice


@pytest.fixture
def backend(stand_in: HostDevice) -> str:
    return "cuda"


@pytest.fixture
def other_backend(stand_in: HostDevice) -> str:
    return "cuda"


def on_the_stand_in(*modules: ModuleType, elsewhere: Set[str] = frozenset()) -> dict[str, object]:
    """Return what a module of tests takes into its names: the modules' tests of a back end, and that back end.

    `elsewhere` names those that are left out.
    """
    tests = {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if name.startswith("test_") and {"backend", "other_backend"} & set(inspect.signature(function).parameters)
    }
    assert elsewhere <= tests.keys(), elsewhere - tests.keys()
    chosen = {name: function for name, function in tests.items() if name not in elsewhere}
    return {"backend": backend, "other_backend": other_backend, **chosen}
