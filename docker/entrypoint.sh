#!/usr/bin/env bash
# Sources ROS and the workspace, then becomes the command, so that it gets the signals of `docker stop`.
set -eo pipefail
# shellcheck disable=SC1090,SC1091
source "/opt/ros/${ROS_DISTRO}/setup.bash"
# shellcheck disable=SC1091
source /ws/install/setup.bash
exec "$@"
