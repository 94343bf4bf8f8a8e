"""CLIP2UDA: unsupervised domain adaptation for 3D semantic segmentation that rewards a frozen CLIP.

This package knows nothing of ROS' runtime: it reads recordings, prepares frames, trains, adapts and segments.
`clip2uda_ros` is the node on top of it.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("clip2uda_ros")
except PackageNotFoundError:  # imported from a source tree that is not installed
    __version__ = "0+unknown"
