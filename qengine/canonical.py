"""The one JSON text of plain data, which digests are of."""

from __future__ import annotations

import json
from typing import Any


def canonical(data: Any) -> bytes:
    """Return the one JSON text of plain data: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
