"""Scenarios: a source and a target domain, each a town seen by its own sensors in its own light."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clip2uda_core.config import Config, load_config
from clip2uda_core.errors import ConfigError
from clip2uda_core.paths import config_file
from clip2uda_core.simulation.appearance import AppearanceConfig
from clip2uda_core.simulation.sensors import CameraConfig, LidarConfig, load_camera, load_lidar
from clip2uda_core.simulation.town import TownConfig, load_town

SPLITS = ("train", "val", "test")
"""Splits by number: their scenes are drawn from seeds of their own."""

DOMAINS = ("source", "target")


class SimulatedDomainConfig(Config):
    """A domain that is made here. town, lidar, cameras: names of files in config/towns and config/sensors.

    frames: number of frames by split. spacing_m: how far the vehicle drives between two frames of a scene.
    """

    kind: Literal["simulation"] = "simulation"
    town: str
    lidar: str
    cameras: tuple[str, ...] = ()
    appearance: AppearanceConfig = AppearanceConfig()
    frames: dict[Literal["train", "val", "test"], Annotated[int, Field(ge=1, le=100_000)]]
    frames_per_scene: Annotated[int, Field(ge=1, le=64)] = 8
    spacing_m: Annotated[float, Field(gt=0, le=50)] = 7.0


class RecordedDomainConfig(Config):
    """A domain of real recordings, which the user names by path. about: which recordings are meant, by split."""

    kind: Literal["recording"]
    about: dict[Literal["train", "val", "test"], str] = Field(default_factory=dict)


class ScenarioConfig(Config):
    """`config/scenarios/<name>.yaml`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    about: str = ""
    label_space: Literal["street8"] = "street8"
    source: SimulatedDomainConfig
    target: Annotated[SimulatedDomainConfig | RecordedDomainConfig, Field(discriminator="kind")]


class Domain(Config):
    """A simulated domain with everything that its names stand for: what its frames depend on, and nothing else."""

    town: TownConfig
    lidar: LidarConfig
    cameras: tuple[CameraConfig, ...]
    appearance: AppearanceConfig
    frames_per_scene: int
    spacing_m: float

    @model_validator(mode="after")
    def _distinct_cameras(self) -> "Domain":
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError(f"two cameras share a name: {names}")
        return self

    @property
    def travel_m(self) -> float:
        """How far the vehicle drives in a scene."""
        return (self.frames_per_scene - 1) * self.spacing_m


def resolve(config: SimulatedDomainConfig) -> Domain:
    """Loads the files that a domain names; ConfigError names the one that is missing or wrong."""
    return Domain(
        town=load_town(config.town),
        lidar=load_lidar(config.lidar),
        cameras=tuple(load_camera(name) for name in config.cameras),
        appearance=config.appearance,
        frames_per_scene=config.frames_per_scene,
        spacing_m=config.spacing_m,
    )


def load_scenario(name: str) -> ScenarioConfig:
    """A shipped scenario by name, or a YAML file by path. Source and target may not share a town's seed."""
    path = config_file(name, "scenarios")
    scenario = load_config(ScenarioConfig, path)
    if isinstance(scenario.target, SimulatedDomainConfig):
        towns = [load_town(domain.town) for domain in (scenario.source, scenario.target)]
        if towns[0].seed == towns[1].seed:
            raise ConfigError(
                f"{path}: the towns '{scenario.source.town}' and '{scenario.target.town}' share the seed "
                f"{towns[0].seed}, so source and target would show the same streets; give one of them another seed"
            )
    return scenario


def simulated_domain(scenario: ScenarioConfig, domain: str) -> SimulatedDomainConfig:
    """The settings of `source` or `target`; ConfigError where it is unknown or a recording."""
    if domain not in DOMAINS:
        raise ConfigError(f"scenario '{scenario.name}': expected domain source or target, got '{domain}'")
    config = scenario.source if domain == "source" else scenario.target
    if isinstance(config, RecordedDomainConfig):
        meant = "; ".join(f"{split}: {about}" for split, about in config.about.items())
        raise ConfigError(
            f"scenario '{scenario.name}': its {domain} domain is a real recording, which is not simulated; "
            f"give the recording's path instead ({meant})"
        )
    return config
