"""The network put together: which step trains what, and that CLIP is no part of it."""

import torch
from tiny_model import camera_view, frame, random_clip, scattered_points

from clip2uda_core.data.prepare import PrepareConfig, prepare
from clip2uda_core.data.sample import Batch, collate
from clip2uda_core.models.network import Clip2udaNetwork, NetworkConfig
from clip2uda_core.models.unet2d import UNet2dConfig

CLASSES = ("road", "car", "tree")


def network() -> Clip2udaNetwork:
    torch.manual_seed(0)
    return Clip2udaNetwork(NetworkConfig(), len(CLASSES), random_clip().dimensions, voxel_channels=1)


def batch() -> Batch:
    config = PrepareConfig(voxel_size_m=0.5)
    frames = [frame(scattered_points(500, seed), camera_view(yaw_rad=seed)) for seed in (0, 1)]
    return collate([prepare(one, config) for one in frames])


def trained_by(net: Clip2udaNetwork, loss: torch.Tensor) -> set[str]:
    """Modules that a step on this loss would change."""
    net.zero_grad()
    loss.backward()
    return {name.split(".")[0] for name, value in net.named_parameters() if value.grad is not None}


def test_shapes_of_both_branches() -> None:
    net, data = network().eval(), batch()
    (group,) = data.groups
    visual = random_clip().encode_images(group.images)
    scores = net.score_map(visual, torch.randn(3, 128))
    assert scores.shape == (2, 3, 6, 10)
    assert scores.abs().max() <= 1
    pixels = net.classify_pixels(visual, scores, group.images, group.uv_px)
    assert pixels.main.shape == pixels.mimic.shape == (len(group.points), 3)
    assert not torch.equal(pixels.main, pixels.mimic)
    voxels = net.classify_voxels(data.voxels, data.voxel_features, 2)
    assert voxels.main.shape == voxels.mimic.shape == (len(data.voxels), 3)
    assert voxels.main[data.voxel_of_point].shape == (1000, 3)


def test_step_a_trains_the_prompt_and_the_adapter_alone() -> None:
    net, data, clip = network(), batch(), random_clip()
    assert clip.text is not None
    visual = clip.encode_images(data.groups[0].images)
    scores = net.score_map(visual, net.prompts(clip.text, CLASSES, "source"))
    assert trained_by(net, scores.square().sum()) == {"prompts", "adapter"}
    assert net.prompts.target.grad is None


def test_step_b_trains_the_rest() -> None:
    net, data, clip = network(), batch(), random_clip()
    assert clip.text is not None
    visual = clip.encode_images(data.groups[0].images)
    scores = net.score_map(visual, net.prompts(clip.text, CLASSES, "source"))
    pixels = net.classify_pixels(visual, scores.detach(), data.groups[0].images, data.groups[0].uv_px)
    voxels = net.classify_voxels(data.voxels, data.voxel_features, 2)
    loss = sum(part.square().sum() for part in (pixels.main, pixels.mimic, voxels.main, voxels.mimic))
    assert isinstance(loss, torch.Tensor)
    assert trained_by(net, loss) == {"decoder", "heads_2d", "sparse_unet", "heads_3d"}


def test_a_joint_step_trains_everything() -> None:
    net, data, clip = network(), batch(), random_clip()
    assert clip.text is not None
    visual = clip.encode_images(data.groups[0].images)
    scores = net.score_map(visual, net.prompts(clip.text, CLASSES, "target"))
    pixels = net.classify_pixels(visual, scores, data.groups[0].images, data.groups[0].uv_px)
    assert trained_by(net, pixels.main.sum()) == {"prompts", "adapter", "decoder", "heads_2d"}


def test_clip_is_neither_trained_nor_saved() -> None:
    net, data, clip = network(), batch(), random_clip()
    before = clip.weight_hash
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    visual = clip.encode_images(data.groups[0].images)
    assert clip.text is not None
    scores = net.score_map(visual, net.prompts(clip.text, CLASSES, "source"))
    net.classify_pixels(visual, scores, data.groups[0].images, data.groups[0].uv_px).main.square().sum().backward()
    optimizer.step()
    assert type(clip)(clip.visual, clip.text, clip.dimensions, clip.config).weight_hash == before
    ours = {value.data_ptr() for value in net.state_dict().values()}
    assert not ours & {value.data_ptr() for value in clip.state_dict().values()}
    assert {name.split(".")[0] for name in net.state_dict()} == {
        "prompts", "adapter", "decoder", "heads_2d", "sparse_unet", "heads_3d", "text_target", "temperatures"
    }  # fmt: skip


def test_a_seed_gives_the_same_3d_branch_beside_any_2d_branch() -> None:
    beginnings = []
    for image_network in (random_clip().dimensions, UNet2dConfig(width=8), None):
        torch.manual_seed(3)
        net = Clip2udaNetwork(NetworkConfig(), len(CLASSES), image_network, voxel_channels=1)
        beginnings.append({**net.sparse_unet.state_dict(), **net.heads_3d.state_dict()})
    for other in beginnings[1:]:
        torch.testing.assert_close(other, beginnings[0], rtol=0, atol=0)
