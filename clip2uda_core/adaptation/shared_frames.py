"""Training frames that several runs share: read by the first that needs them, found by the others."""

import fcntl
import hashlib
import json
from pathlib import Path

from rich.progress import Progress

from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.domains import FrameSource
from clip2uda_core.data.frame_store import Domain, FrameStore, settings_of_frames
from clip2uda_core.errors import DataError
from clip2uda_core.labels import LabelSpace


def shared_store(
    folder: Path,
    name: str,
    frames: FrameSource,
    domain: Domain,
    config: AdaptConfig,
    labels: LabelSpace,
    progress: Progress,
) -> FrameStore:
    """The frames of a recording, prepared as `config` wants them, in a folder of their own below `folder`.

    name: what is read, and how; with the settings of the preparation it says which frames are the same. Other
    processes that want them wait until they are there. Raises DataError when the folder cannot be written.
    """
    prepare, crop, with_images = config.model.prepare, config.loader.crop, config.model.uses_images
    settings = settings_of_frames(labels, prepare, crop, with_images)
    digest = hashlib.blake2b(json.dumps([name, settings]).encode(), digest_size=6).hexdigest()
    store = folder / f"{domain}_{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{domain}_{digest}.lock").open("w")
    except OSError as error:
        raise DataError(f"{folder}: training frames cannot be kept there: {error.strerror}; choose another") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if store.exists():
            return FrameStore.open(store)
        tracked = progress.track(frames, total=len(frames), description=f"reading the {domain} domain")
        return FrameStore.write(tracked, store, domain, labels, prepare, crop, with_images)
