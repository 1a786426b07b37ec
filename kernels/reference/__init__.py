"""NumPy wing: the reference that the other wings must equal bit for bit. Readable before fast."""
