"""How the threads of numerical libraries share the cores with everything else that a robot runs."""

import os


def wait_without_spinning() -> None:
    """Lets OpenMP's threads sleep where they wait for each other, unless the user set OMP_WAIT_POLICY.

    By default they spin. On cores that drivers and transport use too, a thread that spins keeps away the one that it
    waits for: a model on the CPU becomes many times slower under load. To be called before torch is imported, which
    reads the setting once.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
