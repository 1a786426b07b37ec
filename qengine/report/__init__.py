"""Tables and pictures of results; no arithmetic."""
