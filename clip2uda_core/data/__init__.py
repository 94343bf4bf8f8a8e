"""From recordings, messages and simulation to frames, and from frames to what the network takes."""
