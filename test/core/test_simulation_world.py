"""The simulated streets: road coordinates, the ground under rays, what stands where, and seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip2uda_core.simulation import buildings, people, plants, vehicles
from clip2uda_core.simulation.ground import Driveways, Ground, GroundColors, Patch, Relief
from clip2uda_core.simulation.layout import lay_out
from clip2uda_core.simulation.materials import LABELS, Material
from clip2uda_core.simulation.mesh import Mesh, box, ellipsoid, merge, tube
from clip2uda_core.simulation.roads import Road, Strip, chain
from clip2uda_core.simulation.scene import Caster, Scene
from clip2uda_core.simulation.sheet import ground_mesh
from clip2uda_core.simulation.site import overlap
from clip2uda_core.simulation.town import TownConfig

COLORS = GroundColors(*(((0.4, 0.4, 0.4),) * 6))
BEND = Road(
    chain((0, 0), 0.3, [(40, 0.0), (30, 1 / 50), (40, -1 / 80), (30, 0.0)]),
    5.0,
    3.2,
    left=Strip(0, 2),
    right=Strip(1, 2),
)
ACROSS = Road(chain((60, -80), 1.4, [(160, 0.0)]), 4.0, 3.0, Strip(0, 1.5), Strip(0, 1.5))


def ground(**changes: object) -> Ground:
    values: dict = {
        "roads": (BEND, ACROSS),
        "relief": Relief(np.array([0.02, -0.01]), np.array([[0.5, 0.05, 0.02, 0.3]])),
        "colors": COLORS,
        "islands": (Patch((15.0, 4.6), 0.3, 2.5, 0.6),),
        "driveways": (Driveways(np.array([10.0, 25.0])), Driveways(np.zeros(0))),
    }
    return Ground(**(values | changes))


def straight_down(mesh: Mesh, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height that vertical rays hit at (N, 2), NaN for none, and the face."""
    origins = np.column_stack([xy, np.full(len(xy), 50.0)]).astype(np.float32)
    distance, face, _, _ = Caster(mesh).first(origins, np.tile(np.float32([[0, 0, -1]]), (len(xy), 1)))
    return np.where(face >= 0, 50.0 - distance, np.nan), face


@given(s=st.floats(-60, 220), d=st.floats(-20, 20))
def test_road_coordinates_are_the_inverse_of_points(s: float, d: float) -> None:
    xy, _ = BEND.point(s, d)
    along, across = BEND.coordinates(xy)
    assert (along[0], across[0]) == pytest.approx((s, d), abs=1e-6)


def test_a_bend_is_an_arc_of_its_radius() -> None:
    arc = Road(chain((0, 0), 0.0, [(10 * np.pi, 1 / 20)]), 4, 3, Strip(0, 1), Strip(0, 1))
    xy, heading = arc.point(10 * np.pi)
    assert xy[0] == pytest.approx((20, 20))  # a quarter of a circle of 20 m to the left
    assert heading[0] == pytest.approx(np.pi / 2)


def test_rays_hit_the_ground_where_it_says_that_it_is() -> None:
    land = ground()
    xy = np.random.default_rng(1).uniform((-20, -30), (90, 60), (20_000, 2))
    mesh = ground_mesh(land, np.array([-30.0, -40.0]), np.array([100.0, 70.0]))
    z, _ = straight_down(mesh, xy)
    assert np.isfinite(z).all(), "the sheet has holes"
    off_kerb = np.abs(land.kerb_distance(xy)) > 0.1
    error = np.abs(z - land.height(xy))[off_kerb]
    assert np.percentile(error, 99) < 0.02
    assert error.max() < 0.08


def test_no_ray_slips_through_the_sheet() -> None:
    """Slanted rays all hit the sheet, also where coarse cells meet fine ones: none reaches the plain below."""
    land = ground(relief=Relief(np.array([0.03, 0.02]), np.array([[1.5, 0.09, 0.05, 0.3]])), islands=())
    mesh = ground_mesh(land, np.array([-30.0, -40.0]), np.array([100.0, 70.0]))
    rng = np.random.default_rng(2)
    xy = rng.uniform((-10, -20), (80, 50), (300_000, 2))
    origins = np.column_stack([xy, land.height(xy) + 1.8]).astype(np.float32)
    directions = rng.standard_normal((len(xy), 3)) * (1, 1, 0) + (0, 0, -0.6)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distance, face, _, _ = Caster(mesh).first(origins, directions.astype(np.float32))
    ends = origins + directions * distance[:, None]
    within = (np.abs(ends[:, :2] - (35.0, 15.0)) < (64.0, 54.0)).all(axis=1)
    assert within.mean() > 0.99
    assert (face[within] < len(mesh) - 2).all()  # the plain is the last two triangles


def test_the_kerb_is_a_step_that_driveways_lower() -> None:
    land = ground(relief=Relief(np.zeros(2), np.zeros((0, 4))), kerb_m=0.12, roads=(BEND,), islands=())
    inside, _ = BEND.point(np.full(3, 18.0), np.array([-4.9, -5.1, -6.5]))
    assert land.height(inside) == pytest.approx([0.0, 0.12, 0.12], abs=0.005)
    on_driveway, _ = BEND.point(np.full(3, 10.0), np.array([-4.9, -5.05, -6.5]))
    assert land.height(on_driveway) == pytest.approx([0.0, 0.02, 0.12], abs=0.01)


def test_what_the_ground_is_made_of() -> None:
    land = ground()
    across = np.array([1.0, -5.05, -5.5, -7.0, -9.0, 6.0])
    xy, _ = BEND.point(np.full(6, 33.0), across)
    material, _ = land.surface(xy)
    road, kerb, grass, paving = Material.ASPHALT, Material.KERB, Material.GRASS, Material.PAVING
    assert material.tolist() == [road, kerb, grass, paving, grass, paving]  # verge only on the right
    center, _ = BEND.point(np.array([1.0, 5.0]), 0.0)
    assert land.surface(center)[0].tolist() == [Material.MARKING, road]  # dashes of 4 m in 9
    assert LABELS[land.surface(np.array([[15.0, 4.6]]))[0]][0] == 1  # the island is a sidewalk


@pytest.mark.parametrize(
    ("mesh", "low", "high"),
    [
        (box((1, 2, 3), (2, 4, 6), Material.PAINT, (1, 1, 1)), (0, 0, 0), (2, 4, 6)),
        (tube((0, 0, 0), (0, 0, 2), (1, 1), 4, Material.METAL, (1, 1, 1)), (-1, -1, 0), (1, 1, 2)),
        (tube((-3, 0, 0), (1, 0, 0), (0.5, 0.5), 4, Material.METAL, (1, 1, 1)), (-3, -0.5, -0.5), (1, 0.5, 0.5)),
        (ellipsoid((0, 0, 1), (1, 2, 3), Material.SKIN, (1, 1, 1), 16), (-1, -2, -2), (1, 2, 4)),
    ],
)
def test_shapes_fill_their_bounds(mesh: Mesh, low: tuple, high: tuple) -> None:
    assert mesh.vertices.min(0) == pytest.approx(low, abs=1e-6)
    assert mesh.vertices.max(0) == pytest.approx(high, abs=1e-6)


@pytest.mark.parametrize("kind", [*vehicles.PROFILES, "truck", "pickup"])
def test_vehicles_stand_on_the_ground_and_are_of_their_size(kind: str) -> None:
    rng = np.random.default_rng(3)
    make = {"truck": vehicles.truck, "pickup": vehicles.pickup}.get(kind)
    mesh = make(rng) if make else vehicles.car(kind, rng)
    assert set(LABELS[mesh.material].tolist()) == {5}
    assert abs(mesh.vertices[:, 2].min()) < 0.03
    length, width = vehicles.footprint(mesh)
    assert 3.4 < length < 12.8
    assert 1.6 < width < 3.1
    assert {Material.TYRE, Material.CAR_GLASS, Material.HEADLIGHT} <= set(mesh.material.tolist())


def test_people_and_trees_are_of_human_and_of_tree_size() -> None:
    rng = np.random.default_rng(5)
    for make in (people.walker, people.cyclist):
        mesh = make(rng, 0.3)
        assert 1.1 < mesh.vertices[:, 2].max() < 2.1
        assert set(LABELS[mesh.material].tolist()) == {6}
    tall = [plants.tree(rng, 0.2, 1.0).vertices[:, 2].max() for _ in range(20)]
    assert min(tall) > 3.5
    assert max(tall) < 17.0


def test_windows_lie_behind_the_wall() -> None:
    rng = np.random.default_rng(0)
    facade = buildings.random_facade(Material.PLASTER, (0.8, 0.8, 0.7), rng)
    mesh = buildings.house(12.0, 9.0, 3, facade, rng, flat_roof=True, shop=False)
    x, z = rng.uniform(0, 12, 4000), rng.uniform(0.2, 8, 4000)
    origins = np.column_stack([x, np.full(4000, -20.0), z]).astype(np.float32)
    distance, face, _, _ = Caster(mesh).first(origins, np.tile(np.float32([[0, 1, 0]]), (4000, 1)))
    assert (face >= 0).all(), "a wall has holes"
    material = mesh.material[face]
    depth = distance - 20.0
    assert depth[material == Material.WINDOW] == pytest.approx(facade.recess_m, abs=1e-3)
    assert depth[material == Material.PLASTER] == pytest.approx(0.0, abs=1e-3)
    assert 0.08 < (material == Material.WINDOW).mean() < 0.5


@settings(max_examples=200)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(0.2, 2)] * 4))
def test_overlap_is_what_sampled_points_say(place: tuple, sizes: tuple) -> None:
    x, y, heading = place
    a, b = (0.0, 0.0, 0.4, sizes[0], sizes[1]), (x, y, heading, sizes[2], sizes[3])
    grid = np.stack(np.meshgrid(np.linspace(-0.98, 0.98, 25), np.linspace(-0.98, 0.98, 25)), -1).reshape(-1, 2)
    c, s = np.cos(heading), np.sin(heading)
    points = (grid * sizes[2:]) @ np.array([[c, s], [-s, c]]) + (x, y)
    shared = Patch((0.0, 0.0), 0.4, sizes[0], sizes[1]).distance(points).min() < 0
    if shared:
        assert overlap(a, b)
    if not overlap(a, b):
        assert not shared


def test_a_seed_makes_one_scene_and_another_seed_another() -> None:
    town = TownConfig(seed=9)
    first, second, other = (lay_out(town, 10.0, np.random.default_rng([9, 0, seed])) for seed in (0, 0, 1))
    assert np.array_equal(first.mesh.vertices, second.mesh.vertices)
    assert np.array_equal(first.mesh.color, second.mesh.color)
    assert len(first.mesh) != len(other.mesh)


def test_nobody_is_in_the_way_of_the_ego_vehicle() -> None:
    scene = Scene(TownConfig(seed=4), (0, 3), 30.0)
    for travelled in (0.0, 15.0, 30.0):
        snapshot = scene.at(travelled)
        height = np.arange(0.3, 1.9, 0.2)
        sides = np.array([[x, y, z, 1.0] for x in (2.2, -2.2) for y in np.linspace(-0.8, 0.8, 5) for z in height])
        origins = (sides @ snapshot.ego.T)[:, :3].astype(np.float32)
        ahead = np.tile(snapshot.ego[:3, 0].astype(np.float32), (len(origins), 1))
        assert not snapshot.blocked(origins, ahead, np.full(len(origins), 1.5, np.float32)).any()


def test_merging_keeps_every_face_in_its_place() -> None:
    parts = [box((i, 0, 0), (1, 1, 1), Material.PAINT, (i / 3, 0, 0)).as_instance(i) for i in range(3)]
    mesh = merge(parts)
    for i, part in enumerate(parts):
        mine = mesh.instance == i
        assert np.array_equal(mesh.vertices[mesh.faces[mine]], part.vertices[part.faces])
    assert len(merge([])) == 0
