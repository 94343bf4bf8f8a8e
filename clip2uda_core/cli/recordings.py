"""Recordings for a run, from what the user calls them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from clip2uda_core.adaptation.run_data import Recording, RunData
from clip2uda_core.data.readers import ReaderOptions, Thinning, open_sources
from clip2uda_core.errors import ConfigError
from clip2uda_core.simulation.scenario import SimulatedDomainConfig, load_scenario

SOURCE_KINDS = "a rosbag, a KITTI folder, or synthetic:SCENARIO[:DOMAIN[:SPLIT]]"


def recording(addresses: Sequence[str], options: ReaderOptions) -> Recording:
    """Recordings by path, or simulated ones by address, as one. Raises DataError or ConfigError where there is none."""
    open_sources(addresses, options)  # what is not there is told before the training, not after it
    name = " + ".join(addresses)
    if options.max_frames is not None:
        name += f", first {options.max_frames}"
    return Recording(name, repr(options), lambda labels: open_sources(addresses, replace(options, label_space=labels)))


def scenario_addresses(name: str) -> dict[str, list[str]]:
    """The simulated recordings of a scenario, by what a run needs them for. A scenario whose target is real has no
    target, val and test here."""
    scenario = load_scenario(name)
    addresses = {"source": [f"synthetic:{name}:source:train"]}
    if isinstance(scenario.target, SimulatedDomainConfig):
        for kind, split in (("target", "train"), ("val", "val"), ("test", "test")):
            if split in scenario.target.frames:
                addresses[kind] = [f"synthetic:{name}:target:{split}"]
    return addresses


def run_data(
    addresses: Mapping[str, Sequence[str]],
    needed: Sequence[str],
    of_source: ReaderOptions,
    of_target: ReaderOptions,
) -> RunData:
    """The recordings of a run.

    addresses: by `source`, `target`, `val` and `test`. needed: those that the method cannot do without. of_source,
    of_target: how to read the frames to train on; `val` and `test` are of the target domain too, and every frame of
    them counts. Raises ConfigError that names the option where one is missing.
    """
    for kind in needed:
        if kind not in addresses:
            raise ConfigError(f"no --{kind}, which this method trains on: give it ({SOURCE_KINDS}), or a --scenario")
    of_test = replace(of_target, thinning=Thinning())
    options = {"source": of_source, "target": of_target, "val": of_test, "test": of_test}
    return RunData(**{kind: recording(addresses[kind], options[kind]) for kind in addresses})
