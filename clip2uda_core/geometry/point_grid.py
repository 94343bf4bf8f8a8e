"""Nearest neighbours within a radius, by a grid of cells: no tree, and no library beside numpy."""

import numpy as np
from numpy.typing import NDArray

_BITS = 21
_CORNERS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(8, 3)


def voxel_keys(xyz_m: NDArray[np.floating], size_m: float) -> NDArray[np.int64]:
    """(N,) one number a voxel for finite points (N, 3); those beyond 2^20 voxels share the outermost."""
    return _packed(np.floor(np.asarray(xyz_m, np.float64) / size_m).astype(np.int64))


def one_per_voxel(xyz_m: NDArray[np.floating], size_m: float) -> NDArray[np.int64]:
    """Indices of the first of the finite points (N, 3) in each voxel, rising."""
    return np.sort(np.unique(voxel_keys(xyz_m, size_m), return_index=True)[1])


class PointGrid:
    """Finite points (N, 3), asked for the nearest within a radius.

    Each query looks at the eight cells, two radii wide, that its radius can reach into, so time and memory of a query
    grow with the points of the fullest cell: thin them with `one_per_voxel` first.
    """

    def __init__(self, xyz_m: NDArray[np.floating], radius_m: float) -> None:
        self.radius_m = radius_m
        points = np.asarray(xyz_m, np.float64)
        keys = voxel_keys(points, 2 * radius_m)
        self._order = np.argsort(keys, kind="stable")
        self._points = points[self._order]
        self._keys, self._starts, self._counts = np.unique(keys[self._order], return_index=True, return_counts=True)

    def nearest(self, queries_m: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """For finite queries (M, 3): index of the nearest point, -1 where none is within the radius, and its distance,
        infinite there."""
        queries = np.asarray(queries_m, np.float64)
        best = np.full(len(queries), -1, np.int64)
        best_squared = np.full(len(queries), self.radius_m**2)
        if not len(self._keys):
            return best, np.full(len(queries), np.inf)
        # The reach of a query ends in the cell before or after the nearest corner of the grid, along each axis.
        first = np.floor(queries / (2 * self.radius_m) - 0.5).astype(np.int64)
        for corner in _CORNERS:
            self._search(_packed(first + corner), queries, best, best_squared)
        found = best >= 0
        return np.where(found, self._order[best], -1), np.where(found, np.sqrt(best_squared), np.inf)

    def _search(
        self,
        keys: NDArray[np.int64],
        queries: NDArray[np.float64],
        best: NDArray[np.int64],
        best_squared: NDArray[np.float64],
    ) -> None:
        """Compares each query with the points of one cell."""
        cell = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        asking = np.flatnonzero(self._keys[cell] == keys)
        start, count = self._starts[cell[asking]], self._counts[cell[asking]]
        for step in range(int(count.max(initial=0))):
            deep = count > step
            asking, start, count = asking[deep], start[deep], count[deep]
            difference = self._points[start + step] - queries[asking]
            squared = np.einsum("ij,ij->i", difference, difference)
            nearer = squared <= best_squared[asking]
            best[asking[nearer]] = start[nearer] + step
            best_squared[asking[nearer]] = squared[nearer]


def _packed(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    half = 1 << (_BITS - 1)
    cells = np.clip(cells + half, 0, 2 * half - 1)
    return (cells[:, 0] << 2 * _BITS) | (cells[:, 1] << _BITS) | cells[:, 2]
