"""What goes wrong through input that is not ours, in one family.

Every message says what was read, what was expected, what came instead, and what to do about it. The CLI prints it
without a traceback; the node logs it, counts it, and lives on.
"""


class Clip2udaError(ValueError):
    """Bad input: a file, a message, a setting or a request that cannot be served."""


class ConfigError(Clip2udaError):
    """A setting that is unknown, out of range, or contradicts another."""


class DataError(Clip2udaError):
    """A recording, file or message whose content cannot be used."""


class CalibrationError(Clip2udaError):
    """Intrinsics or extrinsics that are missing, zero, or do not fit the image."""


class TransformError(CalibrationError):
    """A transform that the buffer cannot give: unknown frame, no chain, or a time outside what was received."""


class CheckpointError(Clip2udaError):
    """A checkpoint or CLIP weights file that is missing, damaged, or made for something else."""
