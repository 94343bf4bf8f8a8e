"""Frames of the simulated world, `synthetic:SCENARIO[:DOMAIN[:SPLIT]]`, with labels on points and pixels."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from clip2uda_core.data.readers.base import Pairing, Reader, ReaderOptions, SourceDescription, Stamps, Stream
from clip2uda_core.errors import ConfigError
from clip2uda_core.paths import config_file
from clip2uda_core.simulation.cache import open_cache
from clip2uda_core.simulation.generate import Simulator, frames
from clip2uda_core.simulation.scenario import load_scenario, resolve, simulated_domain
from clip2uda_core.types import CameraView, Frame

LABEL_DATASET = "synthetic"


class SyntheticReader(Reader):
    """Frames of one split of a scenario's domain, made on all cores and kept in the cache (see `open_cache`).

    address: `day_to_night`, `day_to_night:target` or `day_to_night:source:val`; the domain is `source` and the split
    `train` where they are left out. Raises ConfigError for an unknown scenario, domain, split or camera.

    Frames may be made by spawned processes: a script needs the usual `if __name__ == "__main__"`.
    """

    label_dataset = LABEL_DATASET

    def __init__(self, address: str, options: ReaderOptions, workers: int | None = None) -> None:
        name, domain, split = _parsed(address)
        scenario = load_scenario(name)
        config = simulated_domain(scenario, domain)
        if split not in config.frames:
            known = ", ".join(config.frames)
            raise ConfigError(
                f"scenario '{scenario.name}', {domain}: expected one of the splits {known}, got '{split}'"
            )
        self._path = config_file(name, "scenarios")
        self._domain, self._split, self._workers = resolve(config), split, workers
        self.name = f"{scenario.name}_{domain}_{split}"
        self.cameras = self._chosen_cameras(options)
        self.warnings: list[str] = []
        self.pairing = Pairing()
        self._label_space = options.label_space
        self._count = min(config.frames[split], options.max_frames or config.frames[split])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        self.pairing = Pairing()
        for index, frame in enumerate(frames(self._domain, self._split, self._count, open_cache(), self._workers)):
            self.pairing.complete += 1
            views = tuple(self._view(view, frame.cloud.stamp_ns) for view in frame.views if view.name in self.cameras)
            labels = frame.cloud.labels
            assert labels is not None
            if self._label_space is not None:
                labels = self._label_space.from_raw(LABEL_DATASET, labels)
            cloud = replace(frame.cloud, labels=labels if self._label_space is not None else None)
            yield Frame(cloud, views, f"{self.name}[{index}]")

    def describe(self) -> SourceDescription:
        streams = [
            Stream("lidar", f"simulated sweeps, {self._domain.lidar.azimuth_steps} firings", len(self), "points")
        ]
        streams += [
            Stream(
                camera.name,
                f"simulated images, {camera.width_px}x{camera.height_px}",
                len(self),
                f"camera {camera.name}",
            )
            for camera in self._domain.cameras
            if camera.name in self.cameras
        ]
        streams.append(Stream("labels", "classes of points and pixels", len(self), "labels"))
        return SourceDescription(self.name, "simulated street scenes", self._path, tuple(streams), tuple(self.warnings))

    def stamps(self) -> dict[str, Stamps]:
        simulator = Simulator(self._domain, self._split)
        cloud = np.array([simulator.stamp_ns(index) for index in range(len(self))], np.int64)
        stamps = {"lidar": Stamps(cloud)}
        for camera in self._domain.cameras:
            if camera.name in self.cameras:
                stamps[camera.name] = Stamps(cloud + round(1e9 * camera.delay_s))
        return stamps

    def _chosen_cameras(self, options: ReaderOptions) -> tuple[str, ...]:
        names = tuple(camera.name for camera in self._domain.cameras)
        if options.cameras is None:
            return names
        unknown = sorted(set(options.cameras) - set(names))
        if unknown:
            raise ConfigError(f"{self.name}: expected cameras out of {', '.join(names)}; got {', '.join(unknown)}")
        return tuple(options.cameras)

    def _view(self, view: CameraView, cloud_stamp_ns: int) -> CameraView:
        self.pairing.nearest_s.setdefault(view.name, []).append(abs(view.stamp_ns - cloud_stamp_ns) / 1e9)
        if self._label_space is None or view.labels is None:
            return replace(view, labels=None)
        return replace(view, labels=self._label_space.from_raw(LABEL_DATASET, view.labels))


def _parsed(address: str) -> tuple[str, str, str]:
    parts = address.split(":")
    if len(parts) > 3 or not all(parts):
        raise ConfigError(f"expected synthetic:SCENARIO[:DOMAIN[:SPLIT]], got 'synthetic:{address}'")
    return parts[0], *(parts[1:] + ["source", "train"][len(parts) - 1 :])  # type: ignore[return-value]
