"""A simulated scenario whose frames cost little: few rays, small images, two frames a scene."""

from pathlib import Path

import yaml

TOWN = {  # an all but empty street, which is made quickly
    "road": {"crossings": [0, 0]},
    "buildings": {"empty_lots": 0.8, "gardens": 0.0},
    "plants": {"street_trees": [0, 1], "yard_trees": [0, 1], "bushes": [0, 1], "hedges": [0, 0]},
    "life": {"parked": [0, 0.1], "moving": [0, 1], "walkers": [1, 2], "clutter": [0, 1], "sheds": [0, 0]},
}
LIDAR = {
    "name": "lidar",
    "blocks": [{"from_deg": 4.0, "to_deg": -20.0, "beams": 12}],
    "azimuth_steps": 96,
    "range_m": [0.9, 60.0],
    "mount": {"z_m": 1.8},
}
CAMERA = {
    "name": "front",
    "width_px": 64,
    "height_px": 32,
    "fx": 36.0,
    "fy": 36.0,
    "cx": 31.5,
    "cy": 15.5,
    "mount": {"x_m": 0.3, "z_m": 1.65},
}


def write_scenario(folder: Path, train: int = 2, real_target: bool = False) -> Path:
    """Writes the scenario `tiny`, by day and by night, and its sensors; splits other than train have two frames."""
    content = {"lidar": LIDAR, "camera": CAMERA, "town_a": {"seed": 71, **TOWN}, "town_b": {"seed": 72, **TOWN}}
    files = {name: str(folder / f"{name}.yaml") for name in content}
    for name, values in content.items():
        Path(files[name]).write_text(yaml.safe_dump(values))
    common = {"lidar": files["lidar"], "cameras": [files["camera"]], "frames_per_scene": 2}
    frames = {"train": train, "val": 2, "test": 2}
    source = {"town": files["town_a"], **common, "frames": {"train": train}}
    night = {"kind": "simulation", "town": files["town_b"], **common, "frames": frames, "appearance": {"night": 1.0}}
    target = {"kind": "recording", "about": {"train": "a drive", "test": "a sequence"}} if real_target else night
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "about": "from day to night", "source": source, "target": target}))
    return path
