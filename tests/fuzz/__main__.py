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

with atheris.instrument_imports(include=["qengine.models", "qengine.identification", "qengine.requant.scales"]):
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
