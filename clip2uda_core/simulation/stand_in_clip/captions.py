"""What is said about a crop of a simulated image, and of which crops it is true."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.labels import LabelSpace

SYNONYMS = {
    "road": ("road", "street", "asphalt road", "lane", "roadway"),
    "sidewalk": ("sidewalk", "pavement", "footpath", "walkway"),
    "terrain": ("grass", "lawn", "grass verge", "terrain", "meadow"),
    "building": ("building", "house", "facade", "wall of a building"),
    "vegetation": ("tree", "bush", "hedge", "vegetation", "plant"),
    "vehicle": ("car", "vehicle", "parked car", "van", "truck"),
    "person": ("person", "pedestrian", "human", "man walking", "cyclist"),
    "pole": ("pole", "lamp post", "traffic sign", "street lamp", "mast"),
    "sky": ("sky", "clouds"),
}
"""Words for the classes of street8, their prompt first, and for the sky, which has no class."""

CONCEPTS = tuple(SYNONYMS)
SKY = CONCEPTS.index("sky")

TEMPLATES = (
    "{}",
    "a {}",
    "the {}",
    "a photo of a {}",
    "a photo of a {}.",
    "a picture of a {}",
    "a cropped photo of a {}",
    "a blurry photo of a {}",
    "there is a {} in the scene",
)
PLACES = ("next to a {}", "in front of a {}", "with a {}", "and a {}")
TIMES = {
    "day": ("by day", "in daylight", "during the day"),
    "night": ("at night", "in the dark", "by night"),
    "rain": ("in the rain", "on a rainy day", "in wet weather"),
    "gray": ("in black and white", "in grayscale"),
}
TRUE_TIMES = {
    "day": ("day",),
    "night": ("night",),
    "rain": ("day", "rain"),
    "gray": ("day", "gray"),
    "night_rain": ("night", "rain"),
}
"""What may be said about an image of a look."""


@dataclass(frozen=True)
class Content:
    """What a crop shows. subject: the concept that a person would name. shares: (9,) of its pixels. look: of LOOKS."""

    subject: int
    shares: NDArray[np.float64]
    look: str

    def beside(self) -> list[int]:
        """Concepts other than the subject that cover at least a tenth."""
        return [concept for concept in np.flatnonzero(self.shares >= 0.1).tolist() if concept != self.subject]


@dataclass(frozen=True)
class Caption:
    """A text, and what it claims; None: says nothing about it."""

    text: str
    subject: int
    place: int | None
    time: str | None

    def holds_for(self, content: Content) -> bool:
        return (
            self.subject == content.subject
            and (self.place is None or self.place in content.beside())
            and (self.time is None or self.time in TRUE_TIMES[content.look])
        )


def write_caption(content: Content, rng: np.random.Generator) -> Caption:
    """A true caption: always names the subject, half of the time something beside it, half of the time the light."""
    words = TEMPLATES[rng.integers(len(TEMPLATES))].format(_word(content.subject, rng))
    beside = content.beside()
    place = int(rng.choice(beside)) if beside and rng.random() < 0.5 else None
    if place is not None:
        words += " " + str(rng.choice(PLACES)).format(_word(place, rng))
    time = str(rng.choice(TRUE_TIMES[content.look])) if rng.random() < 0.5 else None
    if time is not None:
        words += " " + str(rng.choice(TIMES[time]))
    return Caption(words, content.subject, place, time)


def name_concepts(rng: np.random.Generator) -> list[str]:
    """A text for each of the nine concepts, all in one template: what patches are compared with."""
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    return [template.format(_word(concept, rng)) for concept in range(len(CONCEPTS))]


def class_prompts(labels: LabelSpace) -> tuple[str, ...]:
    """The prompts of a label space in the template of CLIP's own zero-shot tests."""
    return tuple(f"a photo of a {prompt}." for prompt in labels.prompts)


def truth(captions: list[Caption], contents: list[Content]) -> NDArray[np.bool_]:
    """(images, captions): which caption is true of which image; the own one always is."""
    return np.array([[caption.holds_for(content) for caption in captions] for content in contents])


def _word(concept: int, rng: np.random.Generator) -> str:
    """The prompt half of the time, so that it is the best known word of its class."""
    words = SYNONYMS[CONCEPTS[concept]]
    return words[0] if rng.random() < 0.5 else str(rng.choice(words))
