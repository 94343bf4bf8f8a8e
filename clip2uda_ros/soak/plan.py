"""When which fault happens: a schedule of slots, each with a fault and the calm after it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clip2uda_core.errors import ConfigError

SLOT_S = 30.0
"""Length of a slot that is aimed at; there are as many rounds of all faults as fit."""
SHORTEST_SLOT_S = 6.0
FAULT_SHARE = 0.55


@dataclass(frozen=True)
class Slot:
    """One fault for `fault_s`, then calm for `calm_s`. rig: index of the sensors that drive the node in it."""

    fault: str
    rig: int
    fault_s: float
    calm_s: float


@dataclass(frozen=True)
class Plan:
    """rounds: each has every fault once. Memory is judged after the first one, in which everything happens first."""

    rounds: tuple[tuple[Slot, ...], ...]

    @property
    def seconds(self) -> float:
        return sum(slot.fault_s + slot.calm_s for part in self.rounds for slot in part)


def make_plan(minutes: float, faults: Sequence[str], rigs: int, seed: int) -> Plan:
    """Rounds of all faults in random order that last `minutes` together; a fault meets another rig in the next round.

    Raises ConfigError when the time is too short for all faults.
    """
    shortest_min = len(faults) * SHORTEST_SLOT_S / 60
    if not minutes >= shortest_min:
        raise ConfigError(f"--minutes: expected at least {shortest_min:.1f} for {len(faults)} faults, got {minutes:g}")
    rounds = max(1, int(60 * minutes / (len(faults) * SLOT_S)))
    slot_s = 60 * minutes / (rounds * len(faults))
    random = np.random.default_rng(seed)
    return Plan(
        tuple(
            tuple(
                Slot(faults[i], (int(i) + number) % rigs, FAULT_SHARE * slot_s, (1 - FAULT_SHARE) * slot_s)
                for i in random.permutation(len(faults))
            )
            for number in range(rounds)
        )
    )
