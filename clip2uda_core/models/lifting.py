"""Lifting: what a map over the image says at the pixels that points project to."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def lift(maps: Tensor, uv_px: Sequence[Tensor], extent_px: tuple[int, int]) -> Tensor:
    """Samples B maps bilinearly at the pixels of each.

    maps: (B, C, h, w), of any resolution, that cover `extent_px` = (H, W) pixels of their image, its padding included.
    uv_px: B tensors (P_b, 2) of pixel coordinates u, v; an integer is the centre of a pixel (OpenCV's convention).
    Returns (P, C), the points of the first image first. Between the centres of the outermost cells and the edge, a map
    has the value of those cells.

    Only P points are looked at, so a map is never brought to image resolution. Interpolating a map up to every pixel
    and reading it at pixel centres gives the same values (padding is cut off by itself: no point lies there).
    """
    height, width = extent_px
    maps = maps.float()  # under autocast a 16-bit grid would be off by pixels
    scale = maps.new_tensor([2 / width, 2 / height])
    lifted = []
    for image, uv in zip(maps, uv_px, strict=True):
        grid = ((uv + 0.5) * scale - 1)[None, None]
        values = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
        lifted.append(values[0, :, 0].T)
    return torch.cat(lifted)
