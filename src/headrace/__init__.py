"""Headrace: score every Kafka event once, and lose nothing."""

from headrace.models.brake import Brake
from headrace.models.combine import by_recent_loss, online_only, stacked, static_only, until_proven
from headrace.models.fallback import Fallback
from headrace.models.features import (
    code,
    cyclic,
    differs,
    distance_km,
    feature,
    field,
    hashed,
    log1p,
    multiple_of,
    one_hot,
)
from headrace.models.keyed import per
from headrace.models.limits import Limits
from headrace.models.pipeline import Pipeline
from headrace.models.static import Function, Linear, Model
from headrace.schemas.event import Event, Label
from headrace.stream.artifact import Static
from headrace.stream.drift import Drift
from headrace.stream.saving import save_static

__all__ = [
    "Brake",
    "Drift",
    "Event",
    "Fallback",
    "Function",
    "Label",
    "Limits",
    "Linear",
    "Model",
    "Pipeline",
    "Static",
    "by_recent_loss",
    "code",
    "cyclic",
    "differs",
    "distance_km",
    "feature",
    "field",
    "hashed",
    "log1p",
    "multiple_of",
    "one_hot",
    "online_only",
    "per",
    "save_static",
    "stacked",
    "static_only",
    "until_proven",
]
__version__ = "0.1.0"
