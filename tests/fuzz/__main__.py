"""Coverage-guided fuzzing of one parser.

    pip install atheris
    python -m tests.fuzz t.safetensors -max_total_time=300 -rss_limit_mb=2048

from the root of the repository; the name is one of `tests.fuzz.harness.PARSERS`, the options are libFuzzer's. An input
that breaks the parser is written to ``crash-...`` in the current folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

import qengine.kernels

#: Numba cannot compile what is instrumented. Atheris knows packages to instrument, and modules not to.
KERNELS = [
    ".".join(("qengine", "kernels", *file.relative_to(place).with_suffix("").parts))
    for place in map(Path, qengine.kernels.__path__)
    for file in place.rglob("*.py")
]

with atheris.instrument_imports(include=["qengine"], exclude=KERNELS):
    from tests.fuzz import harness


def main() -> None:
    """Run one parser under libFuzzer."""
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        corpus = folder / "corpus"
        corpus.mkdir()
        for k, content in enumerate(harness.seeds(name, folder)):
            (corpus / str(k)).write_bytes(content)

        def one(content: bytes) -> None:
            harness.outcome(name, content, folder)

        atheris.Setup([*sys.argv, str(corpus)], one)
        atheris.Fuzz()


main()
