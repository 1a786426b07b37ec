"""The calculator: a page and its JSON API. A face of the engine, with no arithmetic of its own."""
