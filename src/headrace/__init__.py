"""Headrace: score every Kafka event once, and lose nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.models.actions import ask_for_retraining, fall_back, restart_learner, reweight
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
    from headrace.stream.load import extends
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
    "ask_for_retraining",
    "by_recent_loss",
    "code",
    "cyclic",
    "differs",
    "distance_km",
    "extends",
    "fall_back",
    "feature",
    "field",
    "hashed",
    "log1p",
    "multiple_of",
    "one_hot",
    "online_only",
    "per",
    "restart_learner",
    "reweight",
    "save_static",
    "stacked",
    "static_only",
    "until_proven",
]
__version__ = "0.1.0"

# Loaded when a name is first used: the command line imports this package too, and numpy and River take a second.
_HOMES = {
    "models.actions": ("ask_for_retraining", "fall_back", "restart_learner", "reweight"),
    "models.brake": ("Brake",),
    "models.combine": ("by_recent_loss", "online_only", "stacked", "static_only", "until_proven"),
    "models.fallback": ("Fallback",),
    "models.features": (
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
    ),
    "models.keyed": ("per",),
    "models.limits": ("Limits",),
    "models.pipeline": ("Pipeline",),
    "models.static": ("Function", "Linear", "Model"),
    "schemas.event": ("Event", "Label"),
    "stream.artifact": ("Static",),
    "stream.drift": ("Drift",),
    "stream.load": ("extends",),
    "stream.saving": ("save_static",),
}
_HOME = {name: f"headrace.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
