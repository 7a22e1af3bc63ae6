"""Headrace: score every Kafka event once, and lose nothing."""

from headrace.models.combine import by_recent_loss, online_only, stacked, static_only, until_proven
from headrace.models.fallback import Fallback
from headrace.models.features import differs, distance_km, feature, field, log1p, multiple_of
from headrace.models.keyed import per
from headrace.models.pipeline import Pipeline
from headrace.models.static import Function, Linear, Model
from headrace.schemas.event import Event, Label

__all__ = [
    "Event",
    "Fallback",
    "Function",
    "Label",
    "Linear",
    "Model",
    "Pipeline",
    "by_recent_loss",
    "differs",
    "distance_km",
    "feature",
    "field",
    "log1p",
    "multiple_of",
    "online_only",
    "per",
    "stacked",
    "static_only",
    "until_proven",
]
__version__ = "0.1.0"
