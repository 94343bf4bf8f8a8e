"""What could not be used of a bag's messages, and why, in words for its user."""

import numpy as np

from clip2uda_core.data.readers.frame_stream import FrameStream


def losses(stream: FrameStream) -> list[str]:
    """What was lost in what the stream has read so far; clouds that were thinned out are not lost."""
    found = [
        f"{count} messages of {topic} are damaged and were skipped, the last because: {stream.damage[topic]}"
        for topic, count in sorted(stream.damaged.items())
    ]
    found += [
        f"{count} of {stream.clouds} clouds gave no frame: {reason}" for reason, count in stream.dropped_clouds.items()
    ]
    for camera, reason in stream.assembler.last_failure.items():
        found.append(f"camera '{camera}' was skipped in {stream.assembler.skipped(camera)} frames, the last: {reason}")
    for camera, images in stream.images_unstamped.items():
        found.append(f"{images} images of camera '{camera}' were not used: header.stamp is not set")
    found += [told for camera in stream.cameras if (told := _rarely_paired(stream, camera))]
    if stream.thinner.doubt:
        found.append(stream.thinner.doubt)
    return found


def _rarely_paired(stream: FrameStream, camera: str) -> str | None:
    """A warning for a camera whose images mostly are too far from the clouds, in time."""
    joined = stream.joined[camera]
    if 2 * joined >= stream.sets:
        return None
    far_s = [distance_s for distance_s in stream.pairing.nearest_s.get(camera, []) if distance_s > stream.tolerance_s]
    told = f"camera '{camera}' has an image for only {joined} of {stream.sets} clouds"
    if not far_s:
        return f"{told}: it recorded none near the others"
    return (
        f"{told}: the nearest image of the others is {1000 * np.median(far_s):.0f} ms away (median), more than "
        f"{1000 * stream.tolerance_s:.0f} ms; --stamp-offset {camera}=S corrects a clock that is S seconds late, "
        f"--tolerance S takes images that are further away"
    )
