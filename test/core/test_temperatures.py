"""Fusing two branches, and how sure each may be, against observers whose posteriors are known."""

from pathlib import Path

import pytest
import tiny_run
import torch
from torch import Tensor

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.temperatures import CANDIDATES, find_temperatures
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.models.fusion import fuse

CLASSES, POINTS = 5, 20_000
SHARES = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03], dtype=torch.float64)


@pytest.fixture(scope="module")
def truth() -> Tensor:
    return torch.multinomial(SHARES, POINTS, replacement=True, generator=torch.Generator().manual_seed(0))


def observed(truth: Tensor, clearness: float, seed: int) -> Tensor:
    """(P, K) logits of an observer that sees each class as a place of its own, blurred by normal noise; their softmax
    is the very posterior of the class: log share + clearness * (what is seen of the class), by Bayes."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(truth), CLASSES, generator=generator, dtype=torch.float64)
    seen = clearness * torch.nn.functional.one_hot(truth, CLASSES) + noise
    return SHARES.log() + clearness * seen


def accuracy(probabilities: Tensor, truth: Tensor) -> float:
    return float((probabilities.argmax(1) == truth).double().mean())


def test_fused_by_hand() -> None:
    """A fifth of each is spread over the three classes: 0.5, 0.3, 0.2 become 7, 4.6 and 3.4 fifteenths."""
    fused = fuse(torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.2, 0.6, 0.2]]))
    products = torch.tensor([[7.0 * 3.4, 4.6 * 8.2, 3.4 * 3.4]])
    torch.testing.assert_close(fused, products / products.sum())


def test_two_halves_of_a_mind_come_to_no_nan() -> None:
    """Each is certain of another class: both are as likely, and the third is 13 times less so."""
    fused = fuse(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
    torch.testing.assert_close(fused, torch.tensor([[13.0, 13.0, 1.0]]) / 27)
    assert fuse(torch.full((1, 3), torch.nan), torch.ones(1, 3) / 3).isnan().all()


def test_the_surer_of_two_that_are_certain_does_not_overrule() -> None:
    """Both are nearly certain, of two classes; that one is 500 times surer than the other is no evidence."""
    fused = fuse(torch.tensor([[1 - 2e-6, 1e-6, 1e-6]]), torch.tensor([[5e-4, 1 - 1e-3, 5e-4]]))
    assert fused[0, 0] == pytest.approx(fused[0, 1].item(), rel=0.01)


@pytest.mark.parametrize(("of_2d", "of_3d"), [(1.0, 1.0), (2.0, 1.0), (1.0, 2.0), (0.71, 2.83), (1.41, 1.41)])
def test_temperatures_that_undo_too_much_and_too_little_confidence(truth: Tensor, of_2d: float, of_3d: float) -> None:
    """Posteriors whose logits are multiplied by a factor: that factor is the temperature, to be found within two steps
    of the search."""
    first, second = observed(truth, 1.5, 1), observed(truth, 2.5, 2)
    distorted = (first * of_2d).softmax(1), (second * of_3d).softmax(1)
    found = find_temperatures(*distorted)
    for temperature, factor in zip(found, (of_2d, of_3d), strict=True):
        assert factor / 1.2 < temperature < factor * 1.2, found


def test_calibrated_branches_fuse_to_better_labels(truth: Tensor) -> None:
    """The worse of the two is too sure of itself."""
    worse, better = (3 * observed(truth, 1.0, 3)).softmax(1), observed(truth, 2.0, 4).softmax(1)
    t_worse, t_better = find_temperatures(worse, better)
    calibrated = fuse((worse.log() / t_worse).softmax(1), (better.log() / t_better).softmax(1))
    assert accuracy(calibrated, truth) > accuracy(fuse(worse, better), truth) + 0.05
    assert accuracy(calibrated, truth) > accuracy(better, truth) + 0.01


def test_no_point_with_both_leaves_branches_alone() -> None:
    nothing = torch.empty(0, CLASSES, dtype=torch.float64)
    assert find_temperatures(nothing, nothing) == (1.0, 1.0)


def test_a_run_saves_its_temperatures_and_does_not_train_with_them(tmp_path: Path) -> None:
    runs = {}
    for calibrate in ("true", "false"):
        run = Adapter(tiny_run.config("clip2uda", 3, f"calibrate={calibrate}"), tmp_path / calibrate, "cpu")
        run.setup(tiny_run.SOURCE, tiny_run.TARGET)
        run.build()
        assert run.fit()
        run.save_model(tmp_path / calibrate / "model.safetensors")
        runs[calibrate] = run
    saved = [Segmenter.from_checkpoint(tmp_path / each / "model.safetensors", "cpu").network for each in runs]
    assert saved[1].temperatures.tolist() == [1, 1]
    found = saved[0].temperatures.tolist()
    assert found != [1, 1]
    assert all(any(value == pytest.approx(candidate) for candidate in CANDIDATES) for value in found)
    for run in runs.values():
        assert run.network.temperatures.tolist() == [1, 1]
    weights = [{name: value for name, value in net.state_dict().items() if name != "temperatures"} for net in saved]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
