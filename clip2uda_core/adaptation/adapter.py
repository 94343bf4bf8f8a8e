"""The training engine: setup -> build -> fit.

Lightning Fabric hides device and precision, and nothing else.
"""

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim import Optimizer

from clip2uda_core.adaptation.checkpoint import TrainingState, check_identity, load_newest_state, save_state
from clip2uda_core.adaptation.config import AdaptConfig, Precision
from clip2uda_core.adaptation.feature_cache import FeatureCache
from clip2uda_core.adaptation.step import ImageBranch, Iteration, Losses
from clip2uda_core.config import save_config
from clip2uda_core.data.frame_store import Domain, FrameStore
from clip2uda_core.data.loader import TrainingBatch, load_batches
from clip2uda_core.errors import Clip2udaError, ConfigError, DataError
from clip2uda_core.inference.segmenter import Segmenter, build_network, choose_device
from clip2uda_core.labels import LabelSpace
from clip2uda_core.losses import class_weights
from clip2uda_core.models.checkpoint import Checkpoint, CheckpointHeader, save_checkpoint
from clip2uda_core.models.clip import FrozenClip
from clip2uda_core.types import Frame

logger = logging.getLogger(__name__)


class FrameSource(Protocol):
    """Frames that can be counted and read once: a Reader, or a list."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Frame]: ...


class Adapter:
    """One run: trains on a labelled source domain and adapts to an unlabelled target domain.

        adapter = Adapter(config, out)
        adapter.setup(source, target)     # read the frames, once
        adapter.build()                   # CLIP, network, optimizers; go on from a saved state
        finished = adapter.fit()
        adapter.save_model(out / "model.safetensors")

    `out` gets the config, the frames (frames/), the states (states/) and the log (log.jsonl: one line an iteration).
    """

    def __init__(self, config: AdaptConfig, out: Path, device: str = "auto", progress: Progress | None = None) -> None:
        self.config = config
        self.out = out
        self.labels = LabelSpace.load(config.labels)
        self._progress = progress or Progress(disable=True)
        self._fabric = _make_fabric(device, config.precision)

    def setup(self, source: FrameSource, target: FrameSource | None) -> None:
        """Reads the frames of both domains into `out`, or finds them there. A method without losses on the target
        needs no target.

        Raises DataError when a domain has no frame to train on, ConfigError when the target is missing.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        if self.config.losses.use_target and target is None:
            raise ConfigError(f"method '{self.config.method}' adapts to a target domain, but none was given")
        self._source = self._store(source, "source")
        self._target = self._store(target, "target") if target is not None and self.config.losses.use_target else None
        counts = self._source_counts()
        absent = [name for name, count in zip(self.labels.names, counts.tolist(), strict=True) if count == 0]
        if len(absent) == len(self.labels):
            raise DataError(
                f"source domain {_name(self._source)}: none of its points has a label of '{self.labels.name}'; "
                f"choose the label space that fits it, or another source"
            )
        if absent:
            logger.warning("the source has no point of %s: it cannot be learned", ", ".join(absent))

    def _store(self, source: FrameSource, domain: Domain) -> FrameStore:
        folder = self.out / "frames" / domain
        if folder.exists():
            return FrameStore.open(folder)
        frames = self._progress.track(source, total=len(source), description=f"reading the {domain} domain")
        model, crop = self.config.model, self.config.loader.crop
        return FrameStore.write(
            frames, folder, domain, self.labels, model.prepare, crop, with_images=model.branches == "2d+3d"
        )

    def _source_counts(self) -> Tensor:
        """(K,) labelled points per class, of those that the losses see."""
        counts = self._source.seen_counts if self.config.losses.supervise == "seen" else self._source.all_counts
        return torch.from_numpy(counts)

    def build(self) -> None:
        """Makes the frozen CLIP, the network and its optimizers; then takes over the newest state of `out`, where there
        is one.

        Raises ConfigError when that state is of a run with other settings or data.
        """
        config, device = self.config, self._fabric.device
        with_images = config.model.branches == "2d+3d"
        self._clip = FrozenClip.load(config.model.clip, text=True).to(device) if with_images else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = build_network(config.model, self.labels, self._clip).to(device)

        image_branch = None
        if self._clip is not None:
            assert self._clip.text is not None
            self._cache = FeatureCache(self._clip, config.cache)
            image_branch = ImageBranch(self._clip.text, self._cache, self.labels.prompts)
        weights = class_weights(self._source_counts()).to(device)
        self._iteration = Iteration(self.network, image_branch, weights, config.losses)

        with_prompts = config.schedule == "joint" or config.losses.use_prompts
        self.state = TrainingState.begin(self.network, with_prompts, config.optimizer, config.steps)
        saved = load_newest_state(self.out / "states")
        if saved is not None:
            check_identity(saved["identity"], self._identity())
            self.state.load_state_dict(saved)
        save_config(config, self.out / "config.yaml")
        _drop_log_after(self.out / "log.jsonl", self.state.step)

    def _save_state(self) -> None:
        save_state(self.out / "states", self.state.step, self.state.state_dict() | {"identity": self._identity()})

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on: settings that change the result, the data, and CLIP."""
        settings = self.config.model_dump(mode="json", exclude={"save_every": True, "cache": True})
        del settings["loader"]["workers"]
        frames = {"source": self._source.sources, "target": self._target.sources if self._target else ()}
        return {
            "config": settings,
            "features are cached": self.config.cache.enabled,
            "frames": {d: f"{len(names)}, {_hash(names)}" for d, names in frames.items()},
            "clip": self._clip.weight_hash if self._clip else "",
        }

    def fit(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains until `config.steps`, or until `should_stop` says so between two iterations. Returns whether the run
        is finished; either way its state is saved, and a new Adapter on the same folder goes on from it.

        Raises Clip2udaError, with the batch that caused it named and saved, when a loss is not finite.
        """
        sources = self._batches(self._source, "source")
        targets = self._batches(self._target, "target") if self._target is not None else None
        self.network.train()
        task = self._progress.add_task("training", total=self.config.steps, completed=self.state.step)
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            while self.state.step < self.config.steps and not should_stop():
                started = time.perf_counter()
                source = next(sources).to(self._fabric.device)
                target = next(targets).to(self._fabric.device) if targets is not None else None
                waited_s = time.perf_counter() - started

                values = self._iterate(source, target)
                self.state.advance()

                times = {"time_s": time.perf_counter() - started, "waited_s": waited_s}
                log.write(json.dumps({"step": self.state.step, **values, **times}) + "\n")
                self._progress.update(task, completed=self.state.step)
                if self.state.step % self.config.save_every == 0:
                    log.flush()
                    self._save_state()
        self._save_state()
        return self.state.step == self.config.steps

    def _iterate(self, source: TrainingBatch, target: TrainingBatch | None) -> dict[str, float]:
        """One iteration of the method; returns its weighted losses by name."""
        batches = [source] if target is None else [source, target]
        iteration, autocast = self._iteration, self._fabric.autocast
        with autocast():
            passes = [iteration.look(source, "source")]
            if target is not None:
                passes.append(iteration.look(target, "target"))

        prompt_optimizer, optimizer = self.state.prompt_optimizer, self.state.optimizer
        if self.config.schedule == "joint" and prompt_optimizer is not None:
            with autocast():
                losses = iteration.learn_jointly(passes)
            return self._update(losses, [prompt_optimizer, optimizer], batches)

        values = {}
        if prompt_optimizer is not None:
            with autocast():
                losses = iteration.learn_prompts(passes)
            values = self._update(losses, [prompt_optimizer], batches)
        with autocast():
            losses = iteration.learn_representations(passes)
        return values | self._update(losses, [optimizer], batches)

    def _update(
        self, losses: Losses, optimizers: Sequence[Optimizer], batches: Sequence[TrainingBatch]
    ) -> dict[str, float]:
        """One gradient step on the sum of the losses; returns them by name."""
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise self._not_finite(values, batches)
        parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self._fabric.backward(total)
        norm = nn.utils.clip_grad_norm_(parameters, self.config.optimizer.max_gradient_norm)
        if not torch.isfinite(norm):
            raise self._not_finite(values | {"gradient norm": float(norm)}, batches)
        for optimizer in optimizers:
            optimizer.step()
        return values

    def _not_finite(self, values: dict[str, float], batches: Sequence[TrainingBatch]) -> Clip2udaError:
        path = self.out / "not_finite.pt"
        with contextlib.suppress(OSError):  # the error to report is the loss, not the disk
            torch.save([asdict(batch) for batch in batches], path)
        listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        frames = "; ".join(", ".join(batch.sources) for batch in batches)
        return Clip2udaError(
            f"iteration {self.state.step + 1}: losses and gradients must be finite, got {listed}, on the frames "
            f"{frames} (saved in {path}). The states saved earlier are intact: look at these frames, or start again "
            f"with a lower optimizer.learning_rate"
        )

    def _batches(self, store: FrameStore, domain: Domain) -> Iterator[TrainingBatch]:
        config = self.config
        augment = config.augment
        if self._clip is not None and config.cache.enabled and augment.image.color_jitter > 0:
            image = augment.image.model_copy(update={"color_jitter": 0.0})
            augment = augment.model_copy(update={"image": image})
            logger.info("%s: images are mirrored, not jittered in colour: CLIP's features are cached", domain)
        return load_batches(store, domain, config.loader, config.model.prepare, augment, config.seed, self.state.step)

    def segmenter(self) -> Segmenter:
        """The trained network at work, with the text embeddings of the domain that it was adapted to."""
        if self._clip is not None:
            assert self._clip.text is not None
            domain: Domain = "target" if self.config.losses.use_target else "source"
            with torch.no_grad():
                text = self.network.prompts(self._clip.text, self.labels.prompts, domain)
                self.network.text_target.copy_(text)
        return Segmenter(
            self.network, self._clip, self.labels, self.config.model, self._training(), str(self._fabric.device)
        )

    def save_model(self, path: Path) -> None:
        """Writes the checkpoint that `Segmenter.from_checkpoint` loads. Raises CheckpointError when it cannot."""
        self.segmenter()
        header = CheckpointHeader(
            labels=self.labels.config,
            config=self.config.model.model_dump(mode="json"),
            clip_hash=self._clip.weight_hash if self._clip else "",
            training=self._training(),
        )
        save_checkpoint(path, Checkpoint(header, self.network.state_dict()))

    def _training(self) -> str:
        source = f"{len(self._source)} frames of {_name(self._source)}"
        target = f", adapted to {len(self._target)} frames of {_name(self._target)}" if self._target else ""
        return f"{self.config.method}, {self.state.step} steps, seed {self.config.seed}: {source}{target}"


def _make_fabric(device: str, precision: Precision) -> Fabric:
    chosen = choose_device(device)
    on_cuda = chosen.type == "cuda"
    if precision == "auto":
        precision = "bf16-mixed" if on_cuda else "32-true"
    return Fabric(accelerator=chosen.type, devices=[chosen.index or 0] if on_cuda else 1, precision=precision)


def _drop_log_after(path: Path, step: int) -> None:
    """Removes lines of iterations that the resumed run does again, and half a line of one that was killed."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:step]), encoding="utf-8")


def _name(store: FrameStore) -> str:
    return store.sources[0].rsplit("[", 1)[0]


def _hash(names: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
