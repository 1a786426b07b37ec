"""What one request may ask for, so that none of them can take the machine from the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps; each is named in the message that refuses what lies beyond it.

    Attributes
    ----------
    body_bytes : int
        Length of a request, an uploaded file included.
    held_bytes : int
        Length of all requests together that are under way.
    elements : int
        Samples of a tensor.
    scales : int
        Scales of one choice: each takes a search of its own. Searches by entropy take 1/64 of them.
    choices : int
        Choices of one comparison.
    work : int
        Samples times choices of one comparison.
    seconds : float
        Time of a calculation.
    sweep_pairs, sweep_schemes, sweep_seconds
        Pairs, schemes and time of a sweep.
    echoed : int
        Samples of an uploaded file up to which they are written into the form.
    """

    body_bytes: int = 64 << 20
    held_bytes: int = 512 << 20
    elements: int = 1 << 22
    scales: int = 1 << 14
    choices: int = 400
    work: int = 1 << 28
    seconds: float = 30.0
    sweep_pairs: int = 1 << 33
    sweep_schemes: int = 6
    sweep_seconds: float = 120.0
    echoed: int = 5000
