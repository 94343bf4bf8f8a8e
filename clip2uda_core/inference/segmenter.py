"""A checkpoint at work: a frame in, a label for each of its points out."""

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clip2uda_core.config import Config, parse_config
from clip2uda_core.data.prepare import PrepareConfig, prepare
from clip2uda_core.data.sample import Batch, Sample, collate
from clip2uda_core.errors import CheckpointError, ConfigError
from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.models.checkpoint import Checkpoint, CheckpointHeader, load_checkpoint, load_state, save_checkpoint
from clip2uda_core.models.clip import EncodeImages, FrozenClip
from clip2uda_core.models.clip_weights import HOW_TO_GIVE_WEIGHTS, ClipConfig, ClipDimensions
from clip2uda_core.models.fusion import fuse
from clip2uda_core.models.network import Clip2udaNetwork, NetworkConfig
from clip2uda_core.models.unet2d import UNet2dConfig
from clip2uda_core.types import CameraView, Frame, PointCloud, Prediction

MAX_VOXELS = 400_000
"""Scans with more voxels (a 128-beam LiDAR fills half of these) run through the 3D network in slabs, which bounds
memory; voxels at a cut see their neighbours on one side only."""


class ModelConfig(Config):
    """All that a checkpoint's tensors depend on: how frames are prepared, which CLIP, and the network's sizes.

    branches: which branches were trained. `3d` is a model of points alone: it loads no CLIP and looks at no image.
    image_network: of the 2D branch. `clip`: the frozen CLIP, prompts and the shared decoder. `unet`: xMUDA's trained
        U-Net; it needs no CLIP.
    """

    branches: Literal["2d+3d", "3d"] = "2d+3d"
    image_network: Literal["clip", "unet"] = "clip"
    prepare: PrepareConfig = PrepareConfig()
    clip: ClipConfig = ClipConfig()
    network: NetworkConfig = NetworkConfig()

    @property
    def uses_images(self) -> bool:
        return self.branches == "2d+3d"

    @property
    def uses_clip(self) -> bool:
        return self.uses_images and self.image_network == "clip"


class Segmenter:
    """Labels the points of frames, one frame at a time.

    2D is the main head of the image branch: for a point that several cameras see, the mean of their probabilities.
    3D is the main head of the sparse U-Net. Both at the model's temperatures. Fused is what `fusion.fuse`
    makes of both where a camera sees the point (xMUDA's "xM" is their mean), and 3D alone elsewhere.
    """

    def __init__(
        self,
        network: Clip2udaNetwork,
        clip: FrozenClip | None,
        labels: LabelSpace,
        config: ModelConfig,
        training: str = "untrained",
        device: str = "auto",
    ) -> None:
        self.device = choose_device(device)
        self.network = network.to(self.device).eval()
        self.clip = None if clip is None else clip.to(self.device)
        self._encode_images = None if self.clip is None else self.clip.encode_images
        self.labels = labels
        self.config = config
        self.training = training

    @staticmethod
    def from_checkpoint(
        path: Path | str, device: str = "auto", clip_weights: str | None = None, labels: LabelSpace | None = None
    ) -> "Segmenter":
        """Loads a checkpoint and the CLIP that it was trained beside; never CLIP's text tower.

        clip_weights: a file or tag in place of the one in the checkpoint; it must hold the same weights.
        labels: demands a label space. device: `auto` (CUDA where there is), `cpu`, `cuda`, `cuda:1`, ...
        Raises CheckpointError when the checkpoint or CLIP's weights are missing, damaged, or do not belong together,
        and ConfigError for a device that is not there.
        """
        path = Path(path)
        checkpoint = load_checkpoint(path, labels)
        config = parse_config(ModelConfig, checkpoint.header.config, f"config in checkpoint '{path}'")
        clip = None
        if config.uses_clip:
            clip = _load_clip(path, checkpoint.header.clip_hash, config.clip, clip_weights)
        network = build_network(config, checkpoint.labels, clip)
        load_state(network, checkpoint, path)
        return Segmenter(network, clip, checkpoint.labels, config, checkpoint.header.training, device)

    @property
    def info(self) -> dict[str, Any]:
        """The model card: what it labels, what it was trained on, which CLIP it needs, and where it runs."""
        return {
            "label_space": self.labels.name,
            "classes": list(self.labels.names),
            "training": self.training,
            "branches": self.config.branches,
            "image_network": self.config.image_network if self.config.uses_images else None,
            "clip": self.config.clip.model if self.clip else None,
            "clip_weights": self.config.clip.weights if self.clip else None,
            "clip_sha256": self.clip.weight_hash if self.clip else None,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "voxel_size_m": self.config.prepare.voxel_size_m,
            "device": str(self.device),
        }

    def segment(self, frame: Frame) -> Prediction:
        """Labels every point of a frame: N in, N out, in order. Points that are NaN or out of range get IGNORE.

        Stages in `times_s`: prepare, image_encoder (CLIP), image_decoder (or the whole 2D U-Net), points (the sparse
        U-Net), fuse.
        """
        clock = _StageClock(self.device)
        return self._segment(prepare(frame, self.config.prepare), len(frame.cloud), clock, self._encode_images)

    def segment_sample(self, sample: Sample, encode_images: EncodeImages | None = None) -> Prediction:
        """Labels the M points of a frame that is prepared, as this model's `config.prepare` says. encode_images: in
        place of CLIP's own, such as that of a cache."""
        encode_images = encode_images or self._encode_images
        return self._segment(sample, len(sample.xyz_m), _StageClock(self.device), encode_images)

    @torch.inference_mode()
    def _segment(self, sample: Sample, points: int, clock: "_StageClock", encode: EncodeImages | None) -> Prediction:
        batch = collate([sample]).to(self.device)
        clock.lap("prepare")
        seen, probabilities_2d = self._classify_images(batch, clock, encode)
        probabilities_3d = self._classify_voxels(batch)[batch.voxel_of_point]
        clock.lap("points")

        fused = probabilities_3d.clone()
        fused[seen] = fuse(probabilities_2d, probabilities_3d[seen])
        confidence, labels = fused.max(1)
        spread = _Spread(sample.kept, points)
        prediction = Prediction(
            labels=spread(labels.to(torch.uint8), IGNORE),
            confidence=spread(confidence, 0),
            seen=spread(torch.zeros_like(labels, dtype=torch.bool).index_fill_(0, seen, True), False),
            probabilities_2d=spread(
                torch.full_like(fused, torch.nan).index_copy_(0, seen, probabilities_2d), torch.nan
            ),
            probabilities_3d=spread(probabilities_3d, torch.nan),
            times_s=clock.times_s,
        )
        clock.lap("fuse")
        return prediction

    def warm_up(self) -> None:
        """Runs a made-up frame, so that the first real one does not pay for the libraries' first calls."""
        random = np.random.default_rng(0)
        xyz_m = random.uniform((1, -10, -2), (30, 10, 2), (20_000, 3)).astype(np.float32)
        lidar_to_optical = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
        camera_SE3_lidar = SE3.from_rotation_translation(lidar_to_optical, np.zeros(3), "camera", "lidar")
        width, height = self.config.prepare.image_max_width_px or 1280, 384
        view = CameraView(
            name="camera",
            image=np.zeros((height, width, 3), np.uint8),
            stamp_ns=0,
            camera=PinholeCamera(width, height, width / 2, width / 2, width / 2, height / 2),
            camera_SE3_lidar=camera_SE3_lidar,
        )
        intensity = np.zeros(len(xyz_m), np.float32)
        self.segment(Frame(PointCloud(xyz_m, 0, intensity=intensity), (view,), "warm-up"))

    def _classify_images(
        self, batch: Batch, clock: "_StageClock", encode: EncodeImages | None
    ) -> tuple[Tensor, Tensor]:
        """Indices (P,) of the points that some camera sees, and their (P, K) probabilities, the mean over the views."""
        points = [batch.voxel_of_point.new_empty(0)]
        probabilities = [self.network.text_target.new_empty(0, len(self.labels))]
        for group in batch.groups:
            if not self.config.uses_images or len(group.points) == 0:
                continue
            if encode is None:
                logits = self.network.classify_images(group.images, group.uv_px)
            else:
                visual = encode(group.images)
                clock.lap("image_encoder")
                scores = self.network.score_map(visual, self.network.text_target)
                logits = self.network.classify_pixels(visual, scores, group.images, group.uv_px)
            points.append(group.points)
            probabilities.append((logits.main / self.network.temperatures[0]).softmax(1))
            clock.lap("image_decoder")
        seen, place, views = torch.cat(points).unique(return_inverse=True, return_counts=True)
        total = torch.zeros(len(seen), len(self.labels), device=self.device).index_add_(
            0, place, torch.cat(probabilities)
        )
        clock.lap("image_decoder")
        return seen, total / views[:, None]

    def _classify_voxels(self, batch: Batch) -> Tensor:
        """(V, K) probabilities. Voxels come in the order of x, so parts of them are slabs of the scene."""
        parts = zip(batch.voxels.split(MAX_VOXELS), batch.voxel_features.split(MAX_VOXELS), strict=True)
        logits = torch.cat([self.network.classify_voxels(*part, batch_size=1).main for part in parts])
        return (logits / self.network.temperatures[1]).softmax(1)


def build_network(config: ModelConfig, labels: LabelSpace, clip: FrozenClip | None) -> Clip2udaNetwork:
    """The network, initialised at random, that `config` describes for a label space beside a CLIP, or without one."""
    image_network: ClipDimensions | UNet2dConfig | None = None if clip is None else clip.dimensions
    if config.uses_images and not config.uses_clip:
        image_network = config.network.unet2d
    return Clip2udaNetwork(config.network, len(labels), image_network, len(config.prepare.point_features))


def begin_network(config: ModelConfig, labels: LabelSpace, clip: FrozenClip | None, seed: int) -> Clip2udaNetwork:
    """The network before training: random by its seed, but for the encoder's weights that the config names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(config, labels, clip)
    if network.unet2d is not None:
        network.unet2d.load_encoder(config.network.unet2d)
    return network


def _load_clip(path: Path, expected_hash: str, config: ClipConfig, weights: str | None) -> FrozenClip:
    """The CLIP of a checkpoint; CheckpointError when its weights are others than those of the training."""
    clip_config = config if weights is None else config.model_copy(update={"weights": weights})
    clip = FrozenClip.load(clip_config)
    if clip.weight_hash != expected_hash:
        raise CheckpointError(
            f"checkpoint '{path}' was trained beside other weights of CLIP '{config.model}' than "
            f"'{clip_config.weights}': expected sha256 {expected_hash[:16]}, got {clip.weight_hash[:16]}; "
            f"it names '{config.weights}', {HOW_TO_GIVE_WEIGHTS}"
        )
    return clip


def init_checkpoint(path: Path, labels: LabelSpace, config: ModelConfig | None = None, seed: int = 0) -> None:
    """Writes an untrained checkpoint: random weights, and T_target of the plain prompts "a photo of a <class>."."""
    config = config or ModelConfig()
    clip = FrozenClip.load(config.clip, text=True) if config.uses_clip else None
    network = begin_network(config, labels, clip, seed)
    if clip is not None:
        assert clip.text is not None
        with torch.no_grad():
            network.text_target.copy_(clip.text.encode(tuple(f"a photo of a {prompt}." for prompt in labels.prompts)))
    header = CheckpointHeader(
        labels=labels.config,
        config=config.model_dump(mode="json"),
        clip_hash="" if clip is None else clip.weight_hash,
        training="untrained",
    )
    save_checkpoint(path, Checkpoint(header, network.state_dict()))


def choose_device(name: str) -> torch.device:
    """`auto`, or a device by torch's name. Raises ConfigError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device '{name}': expected auto, cpu, cuda or cuda:<index>") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{name}': this machine has {torch.cuda.device_count()} CUDA devices; use auto or cpu"
        )
    return device


class _Spread:
    """Puts values of the M segmented points in their places among the N points of the cloud."""

    def __init__(self, kept: NDArray[np.int64], points: int) -> None:
        self._kept = torch.from_numpy(kept)
        self._points = points

    def __call__(self, values: Tensor, empty: float) -> NDArray:
        values = values.cpu()
        if len(values) == self._points:
            return values.numpy()
        spread = torch.full((self._points, *values.shape[1:]), empty, dtype=values.dtype)
        return spread.index_copy_(0, self._kept, values).numpy()


class _StageClock:
    """Adds the time since the last lap to a stage; waits for CUDA, whose work would else count for a later stage."""

    def __init__(self, device: torch.device) -> None:
        self.times_s = dict.fromkeys(("prepare", "image_encoder", "image_decoder", "points", "fuse"), 0.0)
        self._device = device
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.times_s[stage] += now - self._last
        self._last = now
