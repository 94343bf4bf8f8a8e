"""Where the files that ship with the package are: config/ and launch/, in a checkout, a pip or a colcon install."""

from pathlib import Path

from clip2uda_core.errors import ConfigError

PACKAGE = "clip2uda_ros"


def share_dir() -> Path:
    """The folder that holds package.xml, config/ and launch/ of this installation.

    A source checkout holds them beside the Python packages; pip and colcon put them in `<prefix>/share/clip2uda_ros`
    of the prefix that the Python packages are in.
    """
    for parent in Path(__file__).resolve().parents:
        for candidate in (parent, parent / "share" / PACKAGE):
            if (candidate / "package.xml").is_file() and (candidate / "config").is_dir():
                return candidate
    raise ConfigError(
        f"the files of {PACKAGE} (package.xml, config/) were not found beside {Path(__file__).parent} nor in a "
        f"share/{PACKAGE} above it; install the package again with pip or colcon"
    )


def config_file(name: str, folder: str = "", suffix: str = ".yaml") -> Path:
    """A config file by path, or by the name of one that ships in config/<folder>/.

    Raises ConfigError naming the shipped choices when there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = share_dir() / "config" / folder
    candidate = shipped / (name if name.endswith(suffix) else f"{name}{suffix}")
    if candidate.is_file():
        return candidate
    choices = ", ".join(sorted(p.stem for p in shipped.glob(f"*{suffix}"))) or "none"
    raise ConfigError(f"no file '{name}' and no shipped config/{folder} of that name; shipped: {choices}")
