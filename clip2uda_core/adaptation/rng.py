"""The generators that are global: of Python, numpy and torch. Loading data takes nothing from them; dropout does."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_generators(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the global one is what is to be seeded)
    torch.manual_seed(seed)


def generator_states() -> dict[str, Any]:
    """All states as tensors, numbers and text."""
    name, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), place, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_generator_states(states: Mapping[str, Any]) -> None:
    """Puts the generators where they were; a CUDA device that was not there then keeps its own state."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
        torch.cuda.set_rng_state(state, device)


@contextmanager
def generators_untouched() -> Iterator[None]:
    """Whatever is drawn inside, the generators go on after it as if nothing had been."""
    states = generator_states()
    try:
        yield
    finally:
        set_generator_states(states)
