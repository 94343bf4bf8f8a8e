"""xMUDA's 2D U-Net: what it sees where, its encoder against torchvision's, and weights from files."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch.nn import functional as F

from clip2uda_core.errors import CheckpointError, ConfigError
from clip2uda_core.models.network import Clip2udaNetwork, NetworkConfig
from clip2uda_core.models.unet2d import IMAGE_MEAN, IMAGE_STD, UNet2d, UNet2dConfig


def _network(config: UNet2dConfig) -> Clip2udaNetwork:
    torch.manual_seed(0)
    return Clip2udaNetwork(NetworkConfig(), 3, config, voxel_channels=1).eval()


def _images(count: int, height_px: int, width_px: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height_px)
    return torch.randint(0, 256, (count, 3, height_px, width_px), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("size", "out"), [((1, 1), (16, 16)), ((37, 50), (32, 32)), ((64, 96), (32, 48))])
def test_any_size_gives_features_at_stride_2_of_the_padded_image(size: tuple[int, int], out: tuple[int, int]) -> None:
    assert UNet2d(UNet2dConfig(width=8, channels=8)).eval()(_images(2, *size)).shape == (2, 8, *out)


def test_padding_repeats_the_edge_and_moves_no_pixel() -> None:
    """An image that is not of whole 32 pixels is read, pixel by pixel, as the same one that was padded before."""
    network, image = _network(UNet2dConfig(width=8, channels=8)), _images(1, 37, 50)
    padded = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (0, 27), (0, 14)), mode="edge"))
    v, u = np.mgrid[0:37, 0:50]
    everywhere = [torch.from_numpy(np.stack([u.ravel(), v.ravel()], 1).astype(np.float32))]
    with torch.no_grad():
        cropped, whole = network.classify_images(image, everywhere), network.classify_images(padded, everywhere)
    assert torch.equal(cropped.main, whole.main)
    assert cropped.main.std(0).min() > 1e-3  # places differ, so a shift would show


def test_a_feature_is_read_where_its_pixel_is() -> None:
    """With all else silenced, a feature is the pixel that the first convolution is centred on."""
    network = _network(UNet2dConfig(width=8, channels=8))
    assert network.unet2d is not None
    encoder, narrow = network.unet2d.encoder, network.unet2d.narrow
    last: Any = network.unet2d.decoder[-1]
    with torch.no_grad():
        for weight in (encoder.conv1.weight, last.join[0].weight, narrow.weight, network.heads_2d.main.weight):
            weight.zero_()
        for bias in (narrow.bias, network.heads_2d.main.bias):
            assert bias is not None
            bias.zero_()
        encoder.conv1.weight[0, 0, 3, 3] = 1
        last.join[0].weight[0, 0, 1, 1] = 1
        narrow.weight[0, 0] = 1
        network.heads_2d.main.weight[0, 0] = 1
        image = _images(1, 40, 60) // 2 + 127  # bright, so that no ReLU cuts
        uv_px = torch.tensor([[0.0, 0.0], [10.0, 6.0], [58.0, 38.0], [11.0, 6.0]])
        read = network.classify_images(image, [uv_px]).main[:, 0]
    red = (image[0, 0] / 255 - IMAGE_MEAN[0]) / IMAGE_STD[0]
    expected = [red[0, 0], red[6, 10], red[38, 58], (red[6, 10] + red[6, 12]) / 2]
    assert read.tolist() == pytest.approx([float(value) for value in expected], rel=1e-3)


def test_instance_norm_sees_an_image_in_training_as_at_inference_and_whatever_is_beside_it() -> None:
    images = _images(2, 64, 96)
    networks = {norm: UNet2d(UNet2dConfig(width=8, channels=8, dropout=0, norm=norm)) for norm in ("batch", "instance")}
    alike = {}
    with torch.no_grad():
        for norm, network in networks.items():
            trained, inferred, alone = network.train()(images), network.eval()(images), network(images[:1])
            alike[norm] = torch.allclose(trained, inferred, atol=1e-4)
            assert torch.allclose(inferred[:1], alone, atol=1e-4)
    assert alike == {"batch": False, "instance": True}


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_the_encoder_with_torchvisions_weights_is_torchvisions(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    original = getattr(torchvision.models, name)().eval()
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        state = {key: value.contiguous() for key, value in original.state_dict().items()}
        torch.save(state, path) if suffix == ".pth" else safetensors.torch.save_file(state, path)
        config = UNet2dConfig(encoder=name, weights=str(path))  # type: ignore[arg-type]
        unet = UNet2d(config).eval()
        unet.load_encoder(config)
        pixels = torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            stem = F.max_pool2d(F.relu(original.bn1(original.conv1(pixels))), 3, 2, 1)
            expected = original.layer4(original.layer3(original.layer2(original.layer1(stem))))
            torch.testing.assert_close(unet.encoder(pixels)[-1], expected)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(print, protocol=2))
    for config, said in [
        (UNet2dConfig(encoder="resnet34", weights=str(tmp_path / "resnet18.pth")), "not those of a resnet34"),
        (
            UNet2dConfig(width=8, channels=8, weights=str(tmp_path / "resnet18.pth")),
            r"conv1\.weight: expected \(8, 3, 7, 7\)",
        ),
        (UNet2dConfig(weights="IMAGENET9"), "IMAGENET1K_V1"),
        (UNet2dConfig(weights=str(tmp_path / "code.pth")), "expected a file of tensors"),
    ]:
        with pytest.raises(CheckpointError, match=said):
            UNet2d(config).load_encoder(config)


def test_every_weight_learns() -> None:
    network = _network(UNet2dConfig(width=8, channels=8)).train()
    uv_px = [torch.rand(20, 2) * 40, torch.rand(9, 2) * 40]
    logits = network.classify_images(_images(2, 64, 64), uv_px)
    assert logits.main.shape == (29, 3)
    (logits.main.square().sum() + logits.mimic.square().sum()).backward()
    taught = {name for name, value in network.named_parameters() if value.grad is not None and value.grad.any()}
    assert taught == {name for name, _ in network.named_parameters() if name.startswith(("unet2d", "heads_2d"))}


def test_images_that_are_no_rgb_bytes_are_refused() -> None:
    with pytest.raises(ConfigError, match="uint8 RGB"):
        UNet2d(UNet2dConfig(width=8, channels=8))(torch.rand(1, 3, 32, 32))
