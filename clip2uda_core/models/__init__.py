"""The networks, as modules of tensors: a frozen CLIP, what is trained beside it, and the checkpoint file.

`clip` is the frozen CLIP, `prompts` the learned context and its adaptation to an image, `decoder` the shared decoder,
`unet2d` xMUDA's trained U-Net in place of all three, `lifting` the step from image to points, `sparse_unet` the 3D
network, `batch_norm` what both U-Nets normalise with, `network` all that is trained, put together.
Nothing in here knows about frames, recordings or losses.
"""
