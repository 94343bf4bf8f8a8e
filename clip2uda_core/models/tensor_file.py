"""Opening safetensors files that someone else may have written: checkpoints and CLIP weights."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from clip2uda_core.errors import CheckpointError

_ZIP = b"PK\x03\x04"
_PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def is_pickle(path: Path) -> bool:
    """Whether the file is a pickle, or the zip around one that `torch.save` writes. Reads four bytes, runs nothing."""
    with path.open("rb") as file:
        start = file.read(4)
    return start == _ZIP or start.startswith(_PICKLE)


def open_tensors(path: Path, what: str) -> safe_open:
    """Opens a safetensors file for lazy reading; `what` names it in errors ("checkpoint", "CLIP weights").

    Raises CheckpointError when the file is missing, a pickle (loading one can run any code), truncated or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{what} '{path}': no such file")
    if is_pickle(path):
        raise CheckpointError(
            f"{what} '{path}': expected a safetensors file, got a pickle (or a zip archive around one), which is "
            f"refused whatever its name says, because loading it could run any code that it holds"
        )
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{what} '{path}': expected a safetensors file, got one that is truncated, damaged or of another format "
            f"({error}); copy or download it again"
        ) from None
