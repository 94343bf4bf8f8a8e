"""Segmenting frames with a trained checkpoint."""
