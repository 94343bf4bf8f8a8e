"""The training engine: setup -> build -> fit."""

import contextlib
import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import nn
from torch.optim import Optimizer

from clip2uda_core.adaptation.checkpoint import TrainingState, check_identity, load_newest_state, save_state
from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.distributed import asked_by_any, check_same_images, launch_fabric, sum_gradients
from clip2uda_core.adaptation.domains import DomainReader, Frames
from clip2uda_core.adaptation.early_stop import TargetProbe
from clip2uda_core.adaptation.feature_cache import FeatureCache
from clip2uda_core.adaptation.initial_weights import start_from
from clip2uda_core.adaptation.log import RunLog
from clip2uda_core.adaptation.not_finite import not_finite
from clip2uda_core.adaptation.rng import generators_untouched, seed_generators
from clip2uda_core.adaptation.statistics import estimate_statistics
from clip2uda_core.adaptation.step import ClipBranch, Iteration, Losses
from clip2uda_core.adaptation.temperatures import calibrate
from clip2uda_core.config import merged, save_config
from clip2uda_core.data.frame_store import Domain, FrameStore
from clip2uda_core.data.loader import TrainingBatch, load_batches
from clip2uda_core.errors import ConfigError
from clip2uda_core.files import remove_unfinished, writing
from clip2uda_core.inference.segmenter import Segmenter, begin_network
from clip2uda_core.labels import LabelSpace
from clip2uda_core.losses import class_weights
from clip2uda_core.models.checkpoint import Checkpoint, CheckpointHeader, save_checkpoint
from clip2uda_core.models.clip import FrozenClip
from clip2uda_core.processes import process_rank, sum_over_processes, wait_for_all

logger = logging.getLogger(__name__)


def never() -> bool:
    return False


def nothing(step: int) -> None:
    """What happens after a saved state, unless something is asked for."""


class Adapter:
    """One run: trains on a labelled source domain and adapts to an unlabelled target domain.

        adapter = Adapter(config, out)
        adapter.setup(source, target)     # read the frames, once; with a teacher, its pseudo-labels too
        adapter.build()                   # CLIP, network, optimizers; begin with a model, or go on from a saved state
        finished = adapter.fit()
        adapter.save_model(out / "model.safetensors")

    `out` gets the config, the frames (frames/), the states (states/) and the log (log.jsonl: one line an iteration).
    Under torchrun, each process makes an Adapter and calls the same in the same order.
    """

    def __init__(self, config: AdaptConfig, out: Path, device: str = "auto", progress: Progress | None = None) -> None:
        self.config = config
        self.out = out
        self.labels = LabelSpace.load(config.labels)
        self._fabric = launch_fabric(device, config.precision)
        self._progress = progress if progress is not None and process_rank() == 0 else Progress(disable=True)
        self._begun_with = ""
        self._at_work: tuple[int, Segmenter] | None = None

    @property
    def device(self) -> torch.device:
        return self._fabric.device

    def setup(self, source: Frames | None, target: Frames | None, teacher: Segmenter | None = None) -> None:
        """Reads the frames of both domains into `out`, or finds them there, and lets the teacher label the target,
        where the method has one. A method without losses on a domain does not need it, and does not read it.

        Raises DataError when a domain has no frame to train on, ConfigError when a domain or the teacher is missing or
        does not fit the run.
        """
        with writing(f"{self.out}", ConfigError, "give another --out"):
            self.out.mkdir(parents=True, exist_ok=True)
        reader = DomainReader(self.config, self.labels, self.out / "frames", self._progress)
        self._domains = reader.read(source, target, teacher)

    def build(self, given: Checkpoint | None = None) -> None:
        """Makes the frozen CLIP, the network and its optimizers; then takes over the newest state of `out`, where there
        is one, or else the weights of the given model, where the run begins with these.

        Raises ConfigError when that state is of a run with other settings or data, or the model is not there or does
        not fit.
        """
        config = self.config
        self._clip = FrozenClip.load(config.model.clip, text=True).to(self.device) if config.model.uses_clip else None
        self.network = begin_network(config.model, self.labels, self._clip, config.seed).to(self.device)

        clip_branch = self._encode_images = None
        if self._clip is not None:
            assert self._clip.text is not None
            clip_branch = ClipBranch(self._clip.text, FeatureCache(self._clip, config.cache), self.labels.prompts)
            self._encode_images = clip_branch.cache.encode_images
        weights = class_weights(self._domains.source_counts(config.losses.supervise, len(self.labels)))
        self._iteration = Iteration(self.network, clip_branch, weights.to(self.device), config.losses)

        with_prompts = config.schedule == "joint" or config.losses.use_prompts
        self.state = TrainingState.begin(self.network, with_prompts, config.optimizer, config.steps)
        seed_generators(config.seed + process_rank())
        saved = load_newest_state(self.out / "states")
        if saved is not None:
            # Settings that are newer than the state had their defaults then.
            new_since = {"config": _deciding(AdaptConfig.model_validate({"method": config.method}))}
            check_identity(merged(new_since, saved["identity"]), self._identity())
            self.state.load_state_dict(saved)
            if process_rank() > 0:  # the generators that were saved are those of process 0
                seed_generators(config.seed + process_rank() + self.state.step)
            self._begun_with = saved.get("begun_with", "")
        elif config.initial == "given":
            if given is None:
                raise ConfigError(f"method '{config.method}' begins with the weights of a model, but none was given")
            branches = start_from(given, self.network, config.model, self._clip, self.labels)
            self._begun_with = f"begun with {branches} of ({given.header.training})" if branches else ""
        if process_rank() == 0:
            remove_unfinished(self.out, "*")
            save_config(config, self.out / "config.yaml")
        wait_for_all()

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on: settings that change the result, the data, and CLIP."""
        return {
            "config": _deciding(self.config),
            "classes": ", ".join(self.labels.names),
            "features are cached": self.config.cache.enabled,
            "frames": self._domains.identity(),
            "clip": self._clip.weight_hash if self._clip else "",
        }

    def fit(self, should_stop: Callable[[], bool] = never, after_save: Callable[[int], object] = nothing) -> bool:
        """Trains until `config.steps`, or until `should_stop` says so between two iterations. Returns whether the run
        is finished; either way its state is saved, and a new Adapter on the same folder goes on from it.

        after_save: called with the step after each saved state: every `save_every` iterations and at the end. It may
        use `segmenter` and `save_model`; whatever it draws at random changes nothing in the training.

        Raises Clip2udaError, with the batch that caused it named and saved, when a loss is not finite, and when state
        or log cannot be written; the states saved earlier are intact.
        """
        batches = self._batches()
        self.network.train()
        task = self._progress.add_task("training", total=self.config.steps, completed=self.state.step)
        saved_step = None
        with contextlib.closing(RunLog(self.out / "log.jsonl", self.state.step)) as log:
            while self.state.step < self.config.steps and not asked_by_any(should_stop(), self.device):
                started = time.perf_counter()
                drawn = {domain: next(of_domain).to(self.device) for domain, of_domain in batches.items()}
                if self.network.unet2d is not None:
                    check_same_images(drawn)
                waited_s = time.perf_counter() - started

                values = self._iterate(drawn)
                self.state.advance()

                times = {"time_s": time.perf_counter() - started, "waited_s": waited_s}
                log.append({"step": self.state.step, **values, **times})
                self._progress.update(task, completed=self.state.step)
                if self.state.step % self.config.save_every == 0:
                    saved_step = self._save(after_save)
        if saved_step != self.state.step:
            self._save(after_save)
        return self.state.step == self.config.steps

    def _save(self, after_save: Callable[[int], object]) -> int:
        """Saves a state, then does what is to follow. Returns its step."""
        if process_rank() == 0:
            state = self.state.state_dict() | {"identity": self._identity(), "begun_with": self._begun_with}
            save_state(self.out / "states", self.state.step, state)
        wait_for_all()
        with generators_untouched():
            after_save(self.state.step)
        return self.state.step

    def _iterate(self, batches: dict[Domain, TrainingBatch]) -> dict[str, float]:
        """One iteration of the method; returns its weighted losses by name."""
        iteration, autocast = self._iteration, self._fabric.autocast
        drawn = list(batches.values())
        with autocast():
            passes = [iteration.look(batch, domain) for domain, batch in batches.items()]

        prompt_optimizer, optimizer = self.state.prompt_optimizer, self.state.optimizer
        if self.config.schedule == "joint" and prompt_optimizer is not None:
            with autocast():
                losses = iteration.learn_jointly(passes)
            return self._update(losses, [prompt_optimizer, optimizer], drawn)

        values = {}
        if prompt_optimizer is not None:
            with autocast():
                losses = iteration.learn_prompts(passes)
            values = self._update(losses, [prompt_optimizer], drawn)
        with autocast():
            losses = iteration.learn_representations(passes)
        return values | self._update(losses, [optimizer], drawn)

    def _update(
        self, losses: Losses, optimizers: Sequence[Optimizer], batches: Sequence[TrainingBatch]
    ) -> dict[str, float]:
        """One gradient step on the sum of the losses; returns them by name."""
        stacked = torch.stack(list(losses.values()))
        values = dict(zip(losses, sum_over_processes(stacked).tolist(), strict=True))
        if not all(map(math.isfinite, values.values())):
            raise not_finite(self.out, self.state.step + 1, values, batches)
        networks = [group["params"] for optimizer in optimizers for group in optimizer.param_groups]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self._fabric.backward(stacked.sum())
        sum_gradients([parameter for network in networks for parameter in network])
        for network in networks:
            norm = nn.utils.clip_grad_norm_(network, self.config.optimizer.max_gradient_norm)
            if not torch.isfinite(norm):
                values["gradient norm"] = float(norm)
                raise not_finite(self.out, self.state.step + 1, values, batches)
        for optimizer in optimizers:
            optimizer.step()
        return values

    def _batches(self) -> dict[Domain, Iterator[TrainingBatch]]:
        """Endless batches of each domain that the method looks at, the source's first."""
        stores: dict[Domain, FrameStore | None] = {"source": self._domains.source, "target": self._domains.target}
        config, augment = self.config, self.config.augment
        if self._clip is not None and config.cache.enabled and augment.image.color_jitter > 0:
            image = augment.image.model_copy(update={"color_jitter": 0.0})
            augment = augment.model_copy(update={"image": image})
            logger.info("images are mirrored, not jittered in colour: CLIP's features are cached")
        return {
            domain: load_batches(
                store, domain, config.loader, config.model.prepare, augment, config.seed, self.state.step
            )
            for domain, store in stores.items()
            if store is not None
        }

    def segmenter(self) -> Segmenter:
        """The network as it is now, at work, with text embeddings, statistics and temperatures of the domain that it
        is adapted to. It works on a copy: training goes on unharmed, and does not change it."""
        if self._at_work is None or self._at_work[0] != self.state.step:
            self._at_work = (self.state.step, self._put_to_work())
        return self._at_work[1]

    def _put_to_work(self) -> Segmenter:
        config = self.config
        network = copy.deepcopy(self.network)
        if self._clip is not None:
            assert self._clip.text is not None
            domain: Domain = "target" if config.losses.use_target else "source"
            with torch.no_grad():
                network.text_target.copy_(network.prompts(self._clip.text, self.labels.prompts, domain))
        if config.target_statistics and config.losses.use_target:
            assert self._domains.target is not None
            batch_size = config.loader.batch_size
            estimate_statistics(network, self._domains.target, config.model.prepare, batch_size, self.device)
        begun = f", {self._begun_with}" if self._begun_with else ""
        training = f"{config.method}, {self.state.step} steps, seed {config.seed}: {self._domains.description()}{begun}"
        segmenter = Segmenter(network, self._clip, self.labels, config.model, training, str(self.device))
        if config.calibrate:
            calibrate(segmenter, self._domains.adapted_to, self._encode_images)
        return segmenter

    def measure_target(self) -> dict[str, Any]:
        """The signal of the early stop (early_stop.py), of the network as it is now."""
        return self._probe.measure(self.segmenter())

    @cached_property
    def _probe(self) -> TargetProbe:
        assert self._domains.target is not None
        return TargetProbe(self._domains.target, self.labels)

    def save_model(self, path: Path) -> None:
        """Writes the checkpoint that `Segmenter.from_checkpoint` loads. Raises CheckpointError when it cannot."""
        segmenter = self.segmenter()
        header = CheckpointHeader(
            labels=self.labels.config,
            config=self.config.model.model_dump(mode="json"),
            clip_hash=self._clip.weight_hash if self._clip else "",
            training=segmenter.training,
        )
        if process_rank() == 0:
            save_checkpoint(path, Checkpoint(header, segmenter.network.state_dict()))
        wait_for_all()


def _deciding(config: AdaptConfig) -> dict[str, Any]:
    """The settings that change the result; how often states are saved does where a run may end at one of them."""
    settings = config.model_dump(mode="json", exclude={"cache"})
    del settings["loader"]["workers"]
    if config.patience == 0:
        del settings["save_every"]
    return settings
