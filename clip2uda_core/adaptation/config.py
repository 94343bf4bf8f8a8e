"""The settings of a run. A method is a YAML file of these, `config/adapt/<method>.yaml`: which losses, which branches.

Where a default comes from: docs/method.md.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from clip2uda_core.adaptation.feature_cache import FeatureCacheConfig
from clip2uda_core.adaptation.pseudo_labels import PseudoLabelKind
from clip2uda_core.config import Config
from clip2uda_core.data.augment import AugmentConfig
from clip2uda_core.data.loader import LoaderConfig
from clip2uda_core.inference.segmenter import ModelConfig

Precision = Literal["auto", "32-true", "bf16-mixed"]


class LossConfig(Config):
    """Weights of the losses, 0 for none, and the two constants of the prompt losses.

    pseudo_label: cross entropy on the target, per modality, against what a teacher said there, classes weighted
        as on the source; xMUDA has 1.0, and no weights by class.
    pseudo_labels: of what the teacher said, both modalities learn the `fused` labels, or each the teacher's `own` of
        this modality, as in xMUDA.
    cross_modal_source, cross_modal_target: xMUDA has 1.0 and 0.1 on nuScenes, 0.1 and 0.01 on KITTI.
    temperature: of the score map in the prompt losses. min_confidence: target points whose fused prediction is less
        certain do not teach the prompt.
    supervise: points where the 3D losses that need no image are evaluated: those that a camera sees, or all.
    """

    segmentation: NonNegativeFloat = 1.0
    cross_modal_source: NonNegativeFloat = 0.1
    cross_modal_target: NonNegativeFloat = 0.3
    prompt_source: NonNegativeFloat = 1.0
    prompt_target: NonNegativeFloat = 1.0
    pseudo_label: NonNegativeFloat = 0.0
    pseudo_labels: PseudoLabelKind = "fused"
    temperature: PositiveFloat = 0.07
    min_confidence: Annotated[float, Field(ge=0, lt=1)] = 0.9
    supervise: Literal["seen", "all"] = "seen"

    @property
    def use_source(self) -> bool:
        """Whether any loss looks at the source domain; a run without is source-free."""
        return self.segmentation > 0 or self.cross_modal_source > 0 or self.prompt_source > 0

    @property
    def use_target(self) -> bool:
        """Whether any loss looks at the target domain."""
        return self.cross_modal_target > 0 or self.prompt_target > 0 or self.pseudo_label > 0

    @property
    def use_prompts(self) -> bool:
        """Whether step (a) has anything to learn from."""
        return self.prompt_source > 0 or self.prompt_target > 0


class OptimizerConfig(Config):
    """Adam; `decay` multiplies both learning rates at the given shares of the run. prompt_learning_rate: of context
    tokens and adapter. max_gradient_norm: longer gradients are shortened to this; those of prompts, of 2D and of 3D
    each by themselves."""

    learning_rate: PositiveFloat = 1e-3
    prompt_learning_rate: PositiveFloat = 1e-4
    decay: PositiveFloat = 0.1
    decay_at: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.8, 0.9)
    max_gradient_norm: PositiveFloat = 10.0


class AdaptConfig(Config):
    """All settings of a run.

    train_on: the domain whose labels are learned from. `target` is the oracle; its "source" is the labelled target.
    teacher: the method of the run whose model makes the pseudo-labels of the target, in a second run; or `given`, the
        model that the run is given.
    initial: the weights before the first iteration: `random`, by the seed, or, in each branch that fits, those of the
        model that is `given`. With that teacher, all branches have to fit.
    schedule: `alternate` takes step (a), then step (b), each with its own backward pass; `joint` is one backward pass
        of the sum of all losses, an ablation.
    target_statistics: the model that is saved, or makes pseudo-labels, has batch-norm statistics of the target's frames
        alone, estimated after training (AdaBN), and not the running ones of training, which mix both domains, as xMUDA
        has them. A method without losses on the target does not look at it.
    calibrate: each branch of the model that is saved, or makes pseudo-labels, has a temperature, estimated after
        training without labels (temperatures.py); else it is as sure as training made it, as in xMUDA.
    precision: of the trained network; `auto` is float32 on the CPU and bfloat16 autocast on CUDA.
    save_every: steps between two saved states, from which an interrupted run resumes.
    patience: saved states in a row by which the signal of `early_stop.py` may fail to rise before training ends; 0 lets
        it go on. With it, the model of a run is the one with the highest signal.
    """

    method: str
    labels: str = "street8"
    train_on: Literal["source", "target"] = "source"
    teacher: str | None = None
    initial: Literal["random", "given"] = "random"
    schedule: Literal["alternate", "joint"] = "alternate"
    steps: PositiveInt = 10_000
    seed: int = Field(0, ge=0)
    target_statistics: bool = False
    calibrate: bool = True
    precision: Precision = "auto"
    save_every: PositiveInt = 500
    patience: NonNegativeInt = 0
    model: ModelConfig = ModelConfig()
    losses: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loader: LoaderConfig = LoaderConfig()
    augment: AugmentConfig = AugmentConfig()
    cache: FeatureCacheConfig = FeatureCacheConfig()

    @model_validator(mode="after")
    def _domains(self) -> "AdaptConfig":
        losses = self.losses
        if not (losses.use_source or losses.use_target):
            raise ValueError("all weights in losses are 0: there is nothing to learn from")
        if (self.teacher is not None) != (losses.pseudo_label > 0):
            raise ValueError("teacher and losses.pseudo_label belong together: both, or neither")
        if self.train_on == "target" and losses.use_target:
            raise ValueError(
                "with train_on: target, losses.cross_modal_target, prompt_target and pseudo_label must be 0"
            )
        if self.patience and not losses.use_target:
            raise ValueError("patience needs a loss on the target: without, its frames are not read")
        return self

    @model_validator(mode="after")
    def _image_branch(self) -> "AdaptConfig":
        losses = self.losses
        if not self.model.uses_clip and (losses.prompt_source or losses.prompt_target):
            raise ValueError("without CLIP (model.branches: 3d, model.image_network: unet), losses.prompt_* must be 0")
        if not self.model.uses_images:
            if losses.cross_modal_source or losses.cross_modal_target:
                raise ValueError("with model.branches: 3d, the losses cross_modal_* must be 0")
            if losses.supervise == "seen" and self.loader.crop != "seen":
                raise ValueError(
                    "with model.branches: 3d and points that no camera sees, losses.supervise must be 'all'"
                )
        return self
