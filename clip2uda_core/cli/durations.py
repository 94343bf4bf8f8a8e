"""Durations as people write them."""

import re

from clip2uda_core.errors import ConfigError

_PARTS = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def parse_duration_s(option: str, text: str) -> float:
    """Seconds of `90s`, `30m`, `2h` or `1h30m`; a plain number is minutes. Raises ConfigError that names the option."""
    if _NUMBER.fullmatch(text):
        return 60 * float(text)
    parts = _PARTS.fullmatch(text)
    if not text or parts is None:
        raise ConfigError(
            f"{option} {text}: expected a duration, as in 90s, 30m, 2h or 1h30m; a plain number is minutes"
        )
    return sum(_SECONDS[unit] * float(count) for unit, count in parts.groupdict(default="0").items())
