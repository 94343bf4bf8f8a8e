"""Context tokens, the adapter's residual, and the score map as a cosine."""

import pytest
import torch
from tiny_model import random_clip

from clip2uda_core.config import parse_config
from clip2uda_core.errors import ConfigError
from clip2uda_core.models.clip import VisualFeatures
from clip2uda_core.models.prompts import AdapterConfig, PromptConfig, PromptLearner, VisualPromptAdapter, score_map

CLASSES = ("road", "traffic light", "person")


def visual_features(count: int = 2, embed_dim: int = 128) -> VisualFeatures:
    random = torch.Generator().manual_seed(0)
    dense = torch.randn(count, embed_dim, 3, 5, generator=random)
    return VisualFeatures((), dense, torch.randn(count, embed_dim, generator=random), (48, 80), 16)


def learner() -> PromptLearner:
    torch.manual_seed(0)
    return PromptLearner(PromptConfig(), text_width=64)


def test_each_domain_has_its_own_context() -> None:
    prompts, text = learner(), random_clip().text
    assert text is not None
    assert prompts.source.shape == prompts.target.shape == (8, 64)
    source, target = prompts(text, CLASSES, "source"), prompts(text, CLASSES, "target")
    assert source.shape == (3, 128)
    assert not torch.allclose(source, target)
    target.square().sum().backward()
    assert prompts.target.grad is not None
    assert prompts.target.grad.abs().sum() > 0
    assert prompts.source.grad is None


def test_the_adapter_adds_gamma_times_what_it_saw() -> None:
    torch.manual_seed(0)
    adapter = VisualPromptAdapter(AdapterConfig(), 128)
    assert (adapter.gamma == 1e-4).all()
    text, visual = torch.randn(3, 128), visual_features()
    small = adapter(text, visual) - text
    assert small.shape == (2, 3, 128)
    assert small.abs().max() < 1e-3
    with torch.no_grad():
        adapter.gamma.mul_(1000)
    torch.testing.assert_close(adapter(text, visual) - text, small * 1000, atol=1e-3, rtol=1e-2)
    assert not torch.allclose(small[0], small[1], rtol=1e-2)  # each image adapts it its own way


def test_the_adapter_looks_at_dense_and_global_tokens() -> None:
    torch.manual_seed(0)
    adapter = VisualPromptAdapter(AdapterConfig(gamma=1.0), 128)
    visual = visual_features(1)
    visual.dense.requires_grad_()
    visual.pooled.requires_grad_()
    adapter(torch.randn(3, 128), visual).square().sum().backward()
    assert visual.dense.grad is not None
    assert visual.pooled.grad is not None
    assert (visual.dense.grad.abs().sum(1) > 0).all()
    assert visual.pooled.grad.abs().sum() > 0


def test_gradients_reach_everything_that_step_a_trains() -> None:
    prompts, text = learner(), random_clip().text
    assert text is not None
    adapter, visual = VisualPromptAdapter(AdapterConfig(), 128), visual_features()
    score_map(visual, adapter(prompts(text, CLASSES, "source"), visual)).square().sum().backward()
    for name, parameter in [*adapter.named_parameters(), ("source", prompts.source)]:
        assert parameter.grad is not None, name
        # the last bias before layer norm over a key is without effect (softmax shifts cancel)
        assert parameter.grad.abs().sum() > 0 or "in_proj_bias" in name, name


def test_scores_are_cosines() -> None:
    dense = torch.tensor([[3.0, 0, -1], [4, 2, 0]]).view(1, 2, 1, 3)
    visual = VisualFeatures((), dense, torch.zeros(1, 2), (16, 48), 16)
    scores = score_map(visual, torch.tensor([[[10.0, 0], [0, 0.1]]]))
    torch.testing.assert_close(scores[0, :, 0], torch.tensor([[0.6, 0, -1], [0.8, 1, 0]]))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="width 100 is not a multiple of heads 3"):
        parse_config(AdapterConfig, {"width": 100, "heads": 3}, "test")
    with pytest.raises(ConfigError, match="n_ctx"):
        parse_config(PromptConfig, {"n_ctx": 0}, "test")
