"""Headrace: score every Kafka event once, and lose nothing."""

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
    "differs",
    "distance_km",
    "feature",
    "field",
    "log1p",
    "multiple_of",
    "per",
]
__version__ = "0.1.0"
