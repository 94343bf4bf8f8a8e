"""Makes the frames of a domain: one at a time, or many on all cores, through the cache."""

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.errors import DataError
from clip2uda_core.geometry import SE3
from clip2uda_core.simulation.appearance import draw_appearance
from clip2uda_core.simulation.cache import FrameCache
from clip2uda_core.simulation.camera import pixel_rays, render
from clip2uda_core.simulation.lidar import sweep
from clip2uda_core.simulation.scenario import SPLITS, Domain
from clip2uda_core.simulation.scene import Scene, Snapshot, ego_speed_mps
from clip2uda_core.simulation.sensors import CameraConfig
from clip2uda_core.types import CameraView, Frame

EPOCH_NS = 1_700_000_000_000_000_000
SCENE_GAP_S = 3.0
"""Between the stamps of two scenes, so that no recording tool takes them for one drive."""


@cache
def world_version() -> str:
    """Digest of the simulator's own source: frames of another version are never taken from a cache."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def domain_key(domain: Domain, split: str) -> str:
    """Digest of everything that a split's frames depend on."""
    text = f"{world_version()} {split} {domain.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Simulator:
    """Frames of one split of a domain, by number: frame i always is the same, whatever was made before.

    split: train, val or test; their scenes are drawn from seeds of their own.
    """

    def __init__(self, domain: Domain, split: str) -> None:
        self.domain, self.split = domain, split
        self._scene = lru_cache(maxsize=1)(self._make_scene)

    def scene_seed(self, scene: int) -> tuple[int, int]:
        """With the town's seed, all that a scene depends on."""
        return SPLITS.index(self.split), scene

    def stamp_ns(self, index: int) -> int:
        """Stamp of frame `index`, known without making it."""
        number, step = divmod(index, self.domain.frames_per_scene)
        speed_mps = ego_speed_mps(self.domain.town, self.scene_seed(number))
        return EPOCH_NS + round(1e9 * (number * SCENE_GAP_S + step * self.domain.spacing_m / speed_mps))

    def frame(self, index: int) -> Frame:
        """Frame `index`, with labels on points and pixels."""
        number, step = divmod(index, self.domain.frames_per_scene)
        scene = self._scene(number)
        snapshot = scene.at(step * self.domain.spacing_m)
        stamp_ns = self.stamp_ns(index)
        rng = np.random.default_rng([self.domain.town.seed, *self.scene_seed(number), 1 + step])
        cloud = sweep(scene, snapshot, self.domain.lidar, stamp_ns, rng)
        views = tuple(self._view(camera, scene, snapshot, stamp_ns, rng) for camera in self.domain.cameras)
        return Frame(cloud, views, source=f"{self.split}[{index}]")

    def _make_scene(self, number: int) -> Scene:
        return Scene(self.domain.town, self.scene_seed(number), self.domain.travel_m)

    def _view(
        self, config: CameraConfig, scene: Scene, snapshot: Snapshot, stamp_ns: int, rng: np.random.Generator
    ) -> CameraView:
        """The image of one camera at its own time; the world is that of the snapshot, the vehicle has driven on."""
        look = draw_appearance(self.domain.appearance, rng)
        ego = scene.ego_pose(snapshot.time_s + config.delay_s)
        world_from_camera = ego @ config.base_from_optical()
        camera = config.camera()
        image, labels = render(snapshot, camera, _rays(config), world_from_camera, look, rng)
        lidar = snapshot.ego @ self.domain.lidar.mount.base_from_sensor()
        camera_from_lidar = SE3(np.linalg.inv(world_from_camera) @ lidar, config.name, self.domain.lidar.name)
        return CameraView(config.name, image, stamp_ns + round(1e9 * config.delay_s), camera, camera_from_lidar, labels)


@lru_cache(maxsize=8)
def _rays(config: CameraConfig) -> NDArray[np.float32]:
    return pixel_rays(config.camera())


def frames(domain: Domain, split: str, count: int, cache: FrameCache, workers: int | None = None) -> Iterator[Frame]:
    """The first `count` frames of a split, in order; made on `workers` processes (None: one a core) where they are
    not in the cache. A process makes whole scenes; at most two scenes a process wait to be taken.

    The processes are spawned: a script that calls this needs the usual `if __name__ == "__main__"`. DataError when they
    die.
    """
    size = domain.frames_per_scene
    scenes = [range(first, min(first + size, count)) for first in range(0, count, size)]
    key = domain_key(domain, split)
    missing = [any(not cache.has(key, index) for index in scene) for scene in scenes]
    processes = min(workers or os.cpu_count() or 1, sum(missing))
    if processes <= 1:
        simulator = Simulator(domain, split)
        for scene in scenes:
            for index in scene:
                yield _cached_frame(simulator, key, index, cache)
        return
    yield from _made_by_pool(domain, split, key, list(zip(scenes, missing, strict=True)), cache, processes)


def _made_by_pool(
    domain: Domain, split: str, key: str, scenes: list[tuple[range, bool]], cache: FrameCache, processes: int
) -> Iterator[Frame]:
    """Frames of the scenes in order; those of which any is missing are made by the pool, the others read here."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start_worker) as pool:
        waiting: deque[Future[list[Frame]] | range] = deque()
        left = deque(scenes)
        try:
            while left or waiting:
                while left and len(waiting) < 2 * processes:
                    scene, is_missing = left.popleft()
                    waiting.append(pool.submit(_make_frames, domain, split, key, scene, cache) if is_missing else scene)
                done = waiting.popleft()
                yield from _make_frames(domain, split, key, done, cache) if isinstance(done, range) else done.result()
        except BrokenProcessPool:
            raise DataError(
                f"the {processes} processes that simulate frames ended at once: a script needs "
                "`if __name__ == '__main__':` around its work; otherwise memory may be short, and fewer workers help"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)


def _make_frames(domain: Domain, split: str, key: str, scene: range, cache: FrameCache) -> list[Frame]:
    simulator = Simulator(domain, split)
    return [_cached_frame(simulator, key, index, cache) for index in scene]


def _cached_frame(simulator: Simulator, key: str, index: int, cache: FrameCache) -> Frame:
    frame = cache.read(key, index, simulator.domain)
    if frame is None:
        frame = simulator.frame(index)
        cache.write(key, index, frame)
    return frame
