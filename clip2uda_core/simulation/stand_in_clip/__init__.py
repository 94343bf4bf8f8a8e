"""Makes sim-clip, the stand-in for a CLIP where no weights of one can be had: its images, captions, training, check."""
