"""Who wants to know that kernels are being compiled: nothing is imported here, so that asking costs nothing."""

#: Called with True before a kernel is compiled, and with False when it is done.
listeners: list = []


def tell(begins):
    """Tell every listener."""
    for listener in listeners:
        listener(begins)
