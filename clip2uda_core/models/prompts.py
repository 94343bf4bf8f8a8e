"""The task-specific prompt: learned context tokens per domain, their adaptation to the image, and the score map."""

from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from clip2uda_core.config import Config
from clip2uda_core.models.clip import TextTower, VisualFeatures

Domain = Literal["source", "target"]


class PromptConfig(Config):
    """n_ctx: learned context tokens in front of each class name. per_domain: each domain learns its own, as the method
    has it; one context for both is an ablation."""

    n_ctx: PositiveInt = 8
    per_domain: bool = True


class AdapterConfig(Config):
    """Sizes of the transformer decoder that adapts text to the image; `gamma` is the initial share of what it adds."""

    width: PositiveInt = 256
    heads: PositiveInt = 4
    layers: PositiveInt = 3
    gamma: float = Field(default=1e-4, ge=0)

    @model_validator(mode="after")
    def _divisible(self) -> "AdapterConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class PromptLearner(nn.Module):
    """Context tokens p_source and p_target, (n_ctx, text width) each: the only thing that is learned on the text side.

    One context is shared by all classes of a domain (CoOp, section 3.2). Without `per_domain`, p_source serves both.
    """

    def __init__(self, config: PromptConfig, text_width: int) -> None:
        super().__init__()
        self.source = nn.Parameter(torch.empty(config.n_ctx, text_width))
        self.target = nn.Parameter(torch.empty(config.n_ctx, text_width)) if config.per_domain else None
        for context in self.parameters():
            nn.init.normal_(context, std=0.02)  # the spread of CLIP's own token embeddings

    def forward(self, text: TextTower, class_prompts: tuple[str, ...], domain: Domain) -> Tensor:
        """T_d, (K, E): text embeddings of K classes in a domain; gradients pass the frozen tower to the context."""
        context = self.source if domain == "source" or self.target is None else self.target
        return text.encode_with_context(context, class_prompts)


class VisualPromptAdapter(nn.Module):
    """Lets each class's text look at the image: T~ = T_d + gamma * decoder(T_d, [g; V]) (DenseCLIP's post-model
    prompting, section 3.3)."""

    def __init__(self, config: AdapterConfig, embed_dim: int) -> None:
        super().__init__()
        self.text_in = nn.Sequential(nn.LayerNorm(embed_dim), nn.Linear(embed_dim, config.width))
        self.memory_in = nn.Sequential(
            nn.LayerNorm(embed_dim), nn.Linear(embed_dim, config.width), nn.LayerNorm(config.width)
        )
        layer = nn.TransformerDecoderLayer(
            config.width,
            config.heads,
            4 * config.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.decoder = nn.TransformerDecoder(layer, config.layers)
        self.out = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, embed_dim))
        self.gamma = nn.Parameter(torch.full((embed_dim,), config.gamma))

    def forward(self, text: Tensor, visual: VisualFeatures) -> Tensor:
        """(K, E) text embeddings and the features of B images to T~, (B, K, E)."""
        memory = torch.cat([visual.pooled[:, None], visual.dense.flatten(2).transpose(1, 2)], 1)
        memory = self.memory_in(memory.to(text.dtype))
        queries = self.text_in(text).expand(len(memory), -1, -1)
        return text + self.gamma * self.out(self.decoder(queries, memory))


def score_map(visual: VisualFeatures, adapted_text: Tensor) -> Tensor:
    """M = cos(V, T~): (B, K, h, w) in -1..1, from adapted text (B, K, E)."""
    dense = F.normalize(visual.dense.to(adapted_text.dtype), dim=1)
    return torch.einsum("bkc,bchw->bkhw", F.normalize(adapted_text, dim=2), dense)
