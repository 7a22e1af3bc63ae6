"""What a trained model says of itself: the file beside it, from which it is loaded and checked."""

from typing import Literal

import msgspec

FORMAT = 1
NAME = "manifest.json"

Kind = Literal["linear", "sklearn", "lightgbm", "xgboost", "onnx"]
Number = Literal["float64", "float32", "int64"]


class Column(msgspec.Struct, frozen=True):
    """A feature that the model reads, and the type of number that it is given as."""

    name: str
    type: Number = "float64"


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which number of what the model returns is the score.

    ``method`` is what is called, in scikit-learn; ``name`` is the output, in ONNX; ``column`` is the place, where
    there is a number for each class.
    """

    method: str = ""
    name: str = ""
    column: int | None = None


class Golden(msgspec.Struct, frozen=True):
    """Rows with the scores that they had when the model was saved: it has to give them wherever it is loaded."""

    rows: list[list[float | None]]  # in the order of the features; null is NaN
    scores: list[float]
    tolerance: float  # by which a score may differ, as a share of it, or absolutely below one


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that has to be known of a model before it scores.

    >>> text = '{"format": 1, "kind": "linear", "version": "7", "file": "m.json", "sha256": {}, "features": []}'
    >>> msgspec.json.decode(text, type=Manifest).version
    '7'
    """

    format: int
    kind: Kind
    version: str
    file: str  # the model's own, a name in the same folder
    sha256: dict[str, str]  # of each file in the folder that the model needs
    features: list[Column]
    output: Output = msgspec.field(default_factory=Output)
    made_from: str = ""  # the class of what was trained
    created: str = ""  # when, in UTC
    libraries: dict[str, str] = {}  # with which versions it was made
    golden: Golden | None = None
    metrics: dict[str, float] = {}  # that it was validated with; for people, nothing reads them


class Weights(msgspec.Struct, frozen=True):
    """The file of a linear model."""

    weights: dict[str, float]
    bias: float = 0.0
    logistic: bool = True
    reference: dict[str, float] | msgspec.UnsetType = (
        msgspec.UNSET
    )  # what is usual; nothing is written where it is zero
