"""Chooses config/fastdds.xml for Fast DDS, unless the user chose something.

Fast DDS reads the variables when a process makes its first participant, so they are set before rclpy.init().
"""

import os
from collections.abc import Mapping

from clip2uda_core.paths import share_dir

FAST_DDS_2 = ("humble", "iron", "jazzy")
"""Distributions whose Fast DDS reads the older name of the variable; newer ones read the other and warn of this one."""


def profile_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variable to add to `environment`; none where the user set a profile or transport, or runs another RMW."""
    chosen = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
    if any(environment.get(name) for name in chosen):
        return {}
    if "fastrtps" not in environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"):
        return {}
    older = environment.get("ROS_DISTRO", "") in FAST_DDS_2
    name = "FASTRTPS_DEFAULT_PROFILES_FILE" if older else "FASTDDS_DEFAULT_PROFILES_FILE"
    return {name: str(share_dir() / "config" / "fastdds.xml")}


def use_profile() -> None:
    """Applies the profile to this process."""
    os.environ.update(profile_variables(os.environ))
