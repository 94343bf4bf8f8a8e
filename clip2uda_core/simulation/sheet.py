"""The ground as one sheet of triangles: a coarse grid, refined where the kerb passes, where marching triangles cut it
exactly along the kerb; the kerb's wall is a vertical face."""

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation.ground import Ground
from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.mesh import Mesh, make_mesh, merge

COARSE_M = 3.0
FINE = 4
"""A coarse cell that the kerb passes is cut into FINE x FINE."""

PLAIN_M = 900.0
"""Half the side of the plain below the sheet."""


def ground_mesh(ground: Ground, low_m: NDArray[np.floating], high_m: NDArray[np.floating]) -> Mesh:
    """The sheet over the rectangle `low_m`..`high_m` (each (2,)), on a plain that reaches the horizon."""
    triangles, nodes, refined = _grid(ground, low_m, high_m)
    xy_m = low_m + nodes * (COARSE_M / FINE)
    place = ground.locate(xy_m)
    z = ground.surface_height(place)
    _close_seams(ground, low_m, nodes, refined, z)
    vertices = np.concatenate([xy_m, z[:, None]], 1)
    inside = place.kerb[triangles] < 0
    cut = inside.any(1) & ~inside.all(1)
    sheet = make_mesh(vertices, triangles[~cut], Material.GROUND, (0.3, 0.3, 0.3))
    (x, y), floor = (low_m + high_m) / 2, float(z.min()) - 0.25
    corners = [(x + PLAIN_M * a, y + PLAIN_M * b, floor) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    plain = make_mesh(corners, [[0, 1, 2], [0, 2, 3]], Material.GROUND, (0.3, 0.3, 0.3))
    return merge([sheet, _kerb(ground, vertices, triangles[cut], place.kerb), plain])


def _grid(
    ground: Ground, low_m: NDArray[np.floating], high_m: NDArray[np.floating]
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.bool_]]:
    """Triangles (T, 3), their nodes (V, 2) in fine steps from `low_m`, and which coarse cells (I, J) are refined."""
    cells = np.ceil((high_m - low_m) / COARSE_M).astype(int)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(cells[0]), np.arange(cells[1]), indexing="ij"))
    centers = low_m + (np.stack([i, j], 1) + 0.5) * COARSE_M
    refined = np.abs(ground.kerb_distance(centers)) < 0.75 * COARSE_M + 0.5
    sub_i, sub_j = (a.ravel() for a in np.meshgrid(np.arange(FINE), np.arange(FINE), indexing="ij"))
    corner_i = np.concatenate([i[~refined] * FINE, (i[refined, None] * FINE + sub_i).ravel()])
    corner_j = np.concatenate([j[~refined] * FINE, (j[refined, None] * FINE + sub_j).ravel()])
    size = np.repeat([FINE, 1], [(~refined).sum(), refined.sum() * FINE**2])
    row = cells[1] * FINE + 1
    node = corner_i * row + corner_j
    a, b, c, d = node, node + size * row, node + size * row + size, node + size
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    used, index = np.unique(triangles, return_inverse=True)
    return index.reshape(-1, 3), np.stack([used // row, used % row], 1), refined.reshape(cells)


def _close_seams(
    ground: Ground, low_m: NDArray[np.floating], nodes: NDArray[np.integer], refined: NDArray[np.bool_], z: NDArray
) -> None:
    """Puts fine nodes on the straight edge of a coarse neighbour, between its corners, so that no ray slips through."""
    padded = np.pad(refined, 1, constant_values=True)
    for along, across in ((0, 1), (1, 0)):
        on_edge = np.flatnonzero((nodes[:, across] % FINE == 0) & (nodes[:, along] % FINE != 0))
        cell = nodes[on_edge] // FINE + 1
        before = cell.copy()
        before[:, across] -= 1
        hanging = on_edge[~(padded[tuple(cell.T)] & padded[tuple(before.T)])]
        first = nodes[hanging].copy()
        first[:, along] -= first[:, along] % FINE
        last = first.copy()
        last[:, along] += FINE
        ends = [ground.height(low_m + corner * (COARSE_M / FINE)) for corner in (first, last)]
        share = (nodes[hanging, along] % FINE) / FINE
        z[hanging] = ends[0] * (1 - share) + ends[1] * share


def _kerb(
    ground: Ground, vertices: NDArray[np.floating], triangles: NDArray[np.integer], kerb: NDArray[np.floating]
) -> Mesh:
    """Marching triangles: cuts each along the outline and puts the kerb's wall in between."""
    inside = kerb[triangles] < 0
    odd = np.where(inside.sum(1) == 1, inside.argmax(1), (~inside).argmax(1))
    turn = (odd[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(triangles, turn, 1).T
    cuts = []
    for other in (b, c):
        share = (kerb[a] / (kerb[a] - kerb[other]))[:, None]
        cuts.append(vertices[a, :2] * (1 - share) + vertices[other, :2] * share)
    odd_inside = kerb[a] < 0
    levels = []
    for xy in cuts:
        place = ground.locate(xy)
        base = ground.base_height(place)
        levels.append((base, base + ground.kerb_height(place)))
    count, first = len(a), len(vertices)
    extra = [np.column_stack([xy, z]) for xy, level in zip(cuts, levels, strict=True) for z in level]
    p_low, p_top, q_low, q_top = (first + k * count + np.arange(count) for k in range(4))
    p_odd, q_odd = np.where(odd_inside, p_low, p_top), np.where(odd_inside, q_low, q_top)
    p_even, q_even = np.where(odd_inside, p_top, p_low), np.where(odd_inside, q_top, q_low)
    sheets = [(a, p_odd, q_odd), (p_even, b, c), (p_even, c, q_even)]
    walls = [(p_low, q_low, q_top), (p_low, q_top, p_top)]
    faces = np.concatenate([np.stack(t, 1) for t in sheets + walls])
    material = np.repeat([Material.GROUND, Material.KERB], [3 * count, 2 * count])
    color = np.broadcast_to(np.asarray(ground.colors.kerb, np.float32), (len(faces), 3))
    return make_mesh(np.concatenate([vertices, *extra]), faces, material, color)
