"""Where the parameters of an array's elements stand, and how many elements in a row share them.

An array is cut into runs of one set of parameters: a tensor, a channel's row, a group. Where channels lie side by side
a run reads one set an element.
"""

import numpy as np

from .jit import inlined

#: Elements that go past the caches at once; channels side by side are repeated up to this length.
CHUNK, SHORT = 1024, 2048
#: Runs shorter than LONG are written out, set by set, where that is at most WRITTEN elements: between runs go 30 ns.
LONG, WRITTEN = 64, 1 << 16


@inlined
def run_of(i, n, layout):
    """Return the place of element i's parameters, and how many of the n elements from i on have them.

    Side by side (groups of one) they are the elements' own: how many of these follow one another.
    `layout` is (length, group, groups a row, rows), as for `affine.fill_parameters`.
    """
    length, group, groups, rows = layout
    at, run = np.int64(0), n
    if groups * rows > 1:
        row, column = i // length % rows, i % length
        at = row * groups + column // group
        run = min(length - column, n)
        if group > 1:
            run = min(group - column % group, run)
    return at, run


def side_by_side(layout, *tables):
    """Return (layout, tables, whether sets stand side by side): short runs are written out, short rows repeated.

    `tables` have a column a set.
    """
    length, group, groups, rows = layout
    if groups * rows == 1:
        return layout, tables, None
    period = length * rows
    if group > 1 and (group >= LONG or period > WRITTEN):
        return layout, tables, None
    if group > 1:
        column = np.arange(period)
        place = column // length * groups + column % length // group
        tables = tuple(np.ascontiguousarray(table[:, place]) for table in tables)
    times = max(1, SHORT // period)
    return (period * times, 1, period * times, 1), tuple(np.tile(table, times) for table in tables), True
