"""Tiles of work and their executors; knows nothing of arithmetic."""
