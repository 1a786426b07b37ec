"""One sweep tile in NumPy: draw pairs, evaluate the schemes, tally where they differ.

``tile(work, start, stop)`` depends on (work, pair index) alone, so any cut of the index range into tiles merges to
the same tally. `work` is a record of plain arrays (`qengine.backends.pairs.Work`).
"""

import numpy as np

from ..codes import BIN_ORIGIN, BINS, DIFFERENCE_CELLS, DIFFERENCE_LIMIT, GROUP, RANGE
from .draws import draw
from .evaluate import evaluate, q31


def tile(work, start, stop):
    """Return the tally of pairs ``[start, stop)``: a dict of integer arrays (see `qengine.sweeps.tally`)."""
    schemes = work.rules.shape[0]
    couples = [(i, j) for i in range(schemes) for j in range(i + 1, schemes)]
    tally = {
        "counts": np.zeros((len(couples), BINS, 2), np.int64),
        "differences": np.zeros((len(couples), DIFFERENCE_CELLS), np.int64),
        "largest": np.zeros(len(couples), np.int64),
        "outside": np.zeros(schemes, np.int64),
        "witnesses": np.full((len(couples), work.witnesses), -1, np.int64),
    }
    step = 32 * GROUP
    for begin in range(start, stop, step):
        end = min(begin + step, stop)
        x, channel, real = draw(work, begin, end)
        if work.kind == RANGE:
            value, exponent = q31(real)
            bins = np.where(value == 0, 0, exponent + BIN_ORIGIN)
        else:
            bins = work.bins[channel]
        outputs = [evaluate(work, k, x, channel, real) for k in range(schemes)]
        for k, (_, fits) in enumerate(outputs):
            tally["outside"][k] += int((~fits).sum())
        for c, (i, j) in enumerate(couples):
            both = outputs[i][1] & outputs[j][1]
            d = np.where(both, outputs[i][0] - outputs[j][0], 0)
            np.add.at(tally["counts"][c], (bins[both], (d[both] != 0).astype(np.int64)), 1)
            hits = np.flatnonzero(d)
            cells = np.clip(d[hits], -DIFFERENCE_LIMIT - 1, DIFFERENCE_LIMIT + 1) + DIFFERENCE_LIMIT + 1
            np.add.at(tally["differences"][c], cells, 1)
            if hits.size:
                tally["largest"][c] = max(int(tally["largest"][c]), int(np.abs(d[hits]).max()))
                free = np.flatnonzero(tally["witnesses"][c] < 0)[: hits.size]
                tally["witnesses"][c, free] = begin + hits[: free.size]
    return tally
