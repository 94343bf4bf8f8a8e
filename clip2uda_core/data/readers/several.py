"""Several recordings of one robot, read one after the other as one source."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from clip2uda_core.data.readers.base import Pairing, Reader, SourceDescription, Stamps, Stream
from clip2uda_core.errors import DataError
from clip2uda_core.types import Frame


class SeveralReader(Reader):
    """The frames of each recording, in the order given.

    max_frames: of all together. Raises DataError when the recordings have not the same cameras, and, once they are
    read, when they gave no frame at all.
    """

    def __init__(self, readers: Sequence[Reader], max_frames: int | None = None) -> None:
        assert readers
        self._readers = tuple(readers)
        self._max_frames = max_frames
        self.name = readers[0].name if len(readers) == 1 else f"{readers[0].name}_and_{len(readers) - 1}_more"
        self.cameras = _common_cameras(readers)
        datasets = {reader.label_dataset for reader in readers}
        self.label_dataset = datasets.pop() if len(datasets) == 1 else None
        self.pairing = Pairing()
        self.warnings = self._all_warnings()

    def __len__(self) -> int:
        count = sum(len(reader) for reader in self._readers)
        return min(count, self._max_frames or count)

    def __iter__(self) -> Iterator[Frame]:
        self.pairing = total = Pairing()
        read = 0
        try:
            for reader in self._readers:
                for frame in reader:
                    read += 1
                    yield frame
                    if read == self._max_frames:
                        break
                _add(total, reader.pairing)
                if read == self._max_frames:
                    return
        finally:
            self.warnings[:] = self._all_warnings()
        if read == 0:
            reasons = [f"{count} clouds: {reason}" for reason, count in total.dropped.items()]
            told = "\n".join(f"  {reason}" for reason in dict.fromkeys(self.warnings + reasons))
            raise DataError(f"{self.name}: none of {len(self)} clouds became a frame\n{told}")

    @property
    def parts(self) -> tuple[Reader, ...]:
        return self._readers

    def describe(self) -> SourceDescription:
        """One entry for each stream that recordings share, with the messages of all of them."""
        parts = [reader.describe() for reader in self._readers]
        counts: dict[tuple[str, str, str], int] = {}
        for stream in (stream for part in parts for stream in part.streams):
            key = (stream.name, stream.kind, stream.role)
            counts[key] = counts.get(key, 0) + stream.count
        streams = tuple(Stream(name, kind, count, role) for (name, kind, role), count in counts.items())
        if len(parts) == 1:
            return parts[0]
        kinds = " and ".join(sorted({part.kind for part in parts}))
        kind = f"{len(parts)} recordings ({kinds})"
        return SourceDescription(self.name, kind, parts[0].path, streams, tuple(self._all_warnings()))

    def stamps(self) -> dict[str, Stamps]:
        gathered: dict[str, list[Stamps]] = {}
        for reader in self._readers:
            for name, stamps in reader.stamps().items():
                gathered.setdefault(name, []).append(stamps)
        return {name: _joined(parts) for name, parts in gathered.items()}

    def _all_warnings(self) -> list[str]:
        if len(self._readers) == 1:
            return list(self._readers[0].warnings)
        return [f"{reader.name}: {warning}" for reader in self._readers for warning in reader.warnings]


def check_distinct(sources: Sequence[str | Path]) -> None:
    """Raises DataError when a recording is given twice: its frames would count double."""
    paths = [str(source) if str(source).startswith("synthetic:") else str(Path(source).resolve()) for source in sources]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise DataError(f"given twice: {', '.join(twice)}; name each recording once")


def _common_cameras(readers: Sequence[Reader]) -> tuple[str, ...]:
    cameras = readers[0].cameras
    if all(set(reader.cameras) == set(cameras) for reader in readers):
        return cameras
    found = "\n".join(f"  {reader.name}: {', '.join(reader.cameras) or 'none'}" for reader in readers)
    raise DataError(
        f"several recordings as one source: expected the same cameras in each, got\n{found}\n"
        f"Name those that all have with --camera NAME=TOPIC, or take the clouds alone with --no-cameras."
    )


def _add(total: Pairing, part: Pairing) -> None:
    total.complete += part.complete
    total.partial += part.partial
    total.dropped += part.dropped
    total.images_unused += part.images_unused
    for camera, distances_s in part.nearest_s.items():
        total.nearest_s.setdefault(camera, []).extend(distances_s)


def _joined(parts: Sequence[Stamps]) -> Stamps:
    logged = [part.logged_ns for part in parts if part.logged_ns is not None]
    acquired_ns = np.concatenate([part.acquired_ns for part in parts])
    return Stamps(acquired_ns, np.concatenate(logged) if len(logged) == len(parts) else None)
