"""Requantization: an integer accumulator to an integer output."""
