"""What can be told about a recording without labels: its sensors, their clocks, their calibration."""
