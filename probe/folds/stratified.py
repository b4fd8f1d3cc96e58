"""scikit-learn's stratified folds of groups, to the row, in about a quarter of its time."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from features.arrays import Doubles, Ints


class QuickStratifiedGroupKFold(StratifiedGroupKFold):  # type: ignore[misc]
    """StratifiedGroupKFold that tries all folds of a group at once, and its own classes alone.

    Where a version of scikit-learn asks for the fold otherwise, it is as quick as that.
    """

    def _find_best_fold(
        self, y_counts_per_fold: Doubles, y_cnt: Ints, group_y_counts: Doubles
    ) -> int | None:
        if len(y_cnt) == 1:  # which NumPy would add up in another order
            found: int | None = super()._find_best_fold(y_counts_per_fold, y_cnt, group_y_counts)
            return found
        spread = np.std(y_counts_per_fold / y_cnt, axis=0)[None].repeat(self.n_splits, axis=0)
        (own,) = np.nonzero(group_y_counts)
        tried = y_counts_per_fold[:, None, own].repeat(self.n_splits, axis=1)
        each = np.arange(self.n_splits)
        tried[each, each] += group_y_counts[own]
        spread[:, own] = np.std(tried / y_cnt[own], axis=0)
        best, least, fewest = None, np.inf, np.inf
        sizes = y_counts_per_fold.sum(1).tolist()
        for fold, (value, size) in enumerate(zip(spread.mean(1).tolist(), sizes, strict=True)):
            close = least < np.inf and abs(value - least) <= 1e-8 + 1e-5 * abs(least)
            if value < least or (close and size < fewest):
                best, least, fewest = fold, value, size
        return best
