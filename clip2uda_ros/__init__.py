"""The ROS 2 side of CLIP2UDA: the lifecycle node `segmenter`, and the processes that play and record bags over DDS.

Everything that does not need ROS' runtime is in `clip2uda_core`.
"""
