"""Where the parameters of an array's elements stand, and how many elements in a row share them.

An array is cut into runs of one set of parameters: a tensor, a channel's row, a group. Where channels lie side by side
a run reads one set an element.
"""

import numpy as np

from .jit import inlined

#: Elements that go past the caches at once; channels side by side are repeated up to this length.
CHUNK, SHORT = 512, 2048
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


def columns(layout):
    """Return how many sets `side_by_side` writes out, or 0 where it leaves the tables as they are."""
    length, group, groups, rows = layout
    short = group == 1 or (group < LONG and length * rows <= WRITTEN)
    return length * rows if short and groups * rows > 1 else 0


def side_by_side(layout, *tables):
    """Return (layout, tables, whether sets stand side by side): short runs are written out, short rows repeated.

    `tables` have a column a set.
    """
    length, group, groups, rows = layout
    period = columns(layout)
    if not period:
        return layout, tables, None
    if group > 1:
        row = np.full(groups, group)
        row[-1] = length - (groups - 1) * group
        tables = tuple(np.repeat(table, np.tile(row, rows), axis=1) for table in tables)
    times = SHORT // period
    if times > 1:
        tables, period = tuple(np.tile(table, times) for table in tables), period * times
    return (period, 1, period, 1), tables, True
