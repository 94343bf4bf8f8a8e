"""Prints every measurement as Markdown: `make bench`."""

import argparse
import sys

from clip2uda_core.bench.frame import measure_frame, measure_memcpy
from clip2uda_core.bench.index import measure_index
from clip2uda_core.bench.memory import measure_reading
from clip2uda_core.bench.simulated import measure_simulation
from clip2uda_core.bench.table import print_environment
from clip2uda_core.bench.training import measure_training


def main() -> None:
    parser = argparse.ArgumentParser("clip2uda_core.bench", description=__doc__)
    parser.add_argument("--without-node", action="store_true", help="leave out what needs ROS 2")
    options = parser.parse_args()
    print_environment()
    memcpy_gb_s = measure_memcpy()
    measure_frame(memcpy_gb_s)
    measure_index()
    measure_reading()
    measure_simulation()
    measure_training()
    if options.without_node:
        return
    try:
        from clip2uda_ros.bench import measure_node
    except ModuleNotFoundError as error:
        sys.exit(f"the node is not measured: {error.name} is not installed (pip install 'clip2uda_ros[ros-pip]')")
    measure_node()


if __name__ == "__main__":
    main()
