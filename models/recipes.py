"""River's models that the compiled kernel knows: read as numbers, and made again from them.

A model is known only when every part of it is: its exact classes, their attributes, their parameters. A subclass, a
parameter of another type, or an attribute that another version of River brought makes it unknown, with the reason,
and River itself learns then.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from river import base

from headrace.models.memory import Floats

# The numbers of _kernel.c, in its order.
SCALERS = {
    "river.preprocessing.scale.StandardScaler": {"with_std", "window_size", "counts", "means", "vars"},
    "river.preprocessing.scale.MinMaxScaler": {"window_size", "min", "max"},
}
UNSCALED, STANDARD, CENTRED, MIN_MAX = range(4)
LOSSES = {
    "river.optim.losses.Log": ("weight_pos", "weight_neg"),
    "river.optim.losses.Hinge": ("threshold",),
    "river.optim.losses.Squared": (),
    "river.optim.losses.Absolute": (),
    "river.optim.losses.Huber": ("epsilon",),
    "river.optim.losses.Quantile": ("alpha",),
}
OPTIMIZERS = {
    "river.optim.sgd.SGD": (),
    "river.optim.ada_grad.AdaGrad": ("eps",),
    "river.optim.adam.Adam": ("beta_1", "beta_2", "eps"),
    "river.optim.ftrl.FTRLProximal": ("alpha", "beta", "l1", "l2"),
}
SGD, ADAGRAD, ADAM, FTRL = range(4)
LOSS_ROOM, OPTIMIZER_ROOM = 2, 4
COUNT, CENTRE, SPREAD, WEIGHT, FIRST, SECOND = range(6)

_MODELS = {
    "river.linear_model.log_reg.LogisticRegression": ("binary", list(LOSSES)[:2]),
    "river.linear_model.lin_reg.LinearRegression": ("regression", list(LOSSES)[2:]),
}
_MODEL_HAS = {
    *("optimizer", "loss", "l2", "l1", "intercept_init", "intercept", "intercept_lr", "clip_gradient"),
    *("initializer", "_weights", "_y_name"),
}
# What an optimizer keeps of each feature: _kernel.c has it in `first` and `second`.
_KEPT = {SGD: (), ADAGRAD: ("g2",), ADAM: ("m", "v"), FTRL: ("z", "n")}
_INTEGER_MAX = 2**53  # up to which a float is the same number
_NUMBER_MAX = 1e300
_POWER_MAX = 16.0  # above it a rate could overflow, which River tells by an exception
_STEP_MIN = 1e-300  # under which one divided by it could


PIPELINE = "river.compose.pipeline.Pipeline"


def class_of(thing: Any) -> str:
    """Return the full name of a thing's class, for which its module need not be imported: some take a second."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


class Unknown(Exception):
    """The kernel does not know this model: says why."""


class Learned(NamedTuple):
    """What a model has learned: a column of ``state`` for each feature."""

    names: tuple[str, ...]
    seen: int
    intercept: float
    state: Floats


class Recipe:
    """A model that the kernel knows.

    >>> from river import linear_model, optim, preprocessing
    >>> Recipe(preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.Adam()))
    <Recipe StandardScaler | LogisticRegression(Adam, Log)>
    >>> Recipe(preprocessing.StandardScaler(window_size=9) | linear_model.LogisticRegression())
    Traceback (most recent call last):
    headrace.models.recipes.Unknown: StandardScaler.window_size is 9, and the kernel knows None
    """

    def __init__(self, model: base.Estimator) -> None:
        scaler, linear = _steps(model)
        if class_of(linear) not in _MODELS:
            raise Unknown(f"the kernel does not know {type(linear).__name__}")
        kind, losses = _MODELS[class_of(linear)]
        self.kind: Literal["binary", "regression"] = "binary" if kind == "binary" else "regression"
        if class_of(linear.initializer) != "river.optim.initializers.Zeros":
            raise Unknown(f"{_of(linear)}.initializer is {_of(linear.initializer)}, and the kernel knows Zeros")
        if linear.l1 != 0:
            raise Unknown(f"{_of(linear)}.l1 is {linear.l1!r}, and the kernel knows 0")
        _has(linear, _MODEL_HAS)
        optimizer, loss = linear.optimizer, linear.loss
        if class_of(optimizer) not in OPTIMIZERS:
            raise Unknown(f"the kernel does not know the optimizer {_of(optimizer)}")
        if class_of(loss) not in losses:
            raise Unknown(f"the kernel does not know {_of(linear)} with the loss {_of(loss)}")
        self._optimizer = list(OPTIMIZERS).index(class_of(optimizer))
        self._scaler = _scaler_number(scaler)
        self.intercept = _number(linear, "intercept_init")
        self.settings = np.array(
            [
                self._scaler,
                list(LOSSES).index(class_of(loss)),
                self._optimizer,
                *_numbers(loss, LOSSES[class_of(loss)], LOSS_ROOM),
                *_rate(optimizer, "lr" if self._optimizer != FTRL else ""),
                *_rate(linear, "intercept_lr"),
                _number(linear, "l2"),
                _number(linear, "clip_gradient", most=math.inf),
                *_optimizer_numbers(optimizer, self._optimizer),
            ]
        )
        scaled = [_of(scaler)] if scaler is not None else []
        self.steps = " | ".join([*scaled, f"{_of(linear)}({_of(optimizer)}, {_of(loss)})"])
        # What is known of a feature that was never seen.
        least, most = (math.inf, -math.inf) if self._scaler == MIN_MAX else (0.0, 0.0)
        self.blank: Floats = np.array([[0.0], [least], [most], [0.0], [0.0], [0.0]])

    def __repr__(self) -> str:
        return f"<Recipe {self.steps}>"

    def taken(self, model: base.Estimator, seen: int) -> Learned:
        """Return what a model of this kind has learned."""
        scaler, linear = _steps(model)
        names = tuple(linear.weights)
        state = np.repeat(self.blank, len(names), axis=1)
        kept = [getattr(linear.optimizer, name) or {} for name in _KEPT[self._optimizer]]
        rows: dict[int, Any] = {WEIGHT: linear.weights, **dict(zip((FIRST, SECOND), kept, strict=False))}
        if self._scaler == MIN_MAX:
            rows[CENTRE] = {name: one.get() for name, one in scaler.min.items()}
            rows[SPREAD] = {name: one.get() for name, one in scaler.max.items()}
        elif self._scaler != UNSCALED:
            rows.update({COUNT: scaler.counts, CENTRE: scaler.means, SPREAD: scaler.vars})
        for row, held in rows.items():
            blank = float(self.blank[row, 0])
            state[row] = [held.get(name, blank) for name in names]
        return Learned(names, seen, float(linear.intercept), state)

    def give(self, model: base.Estimator, learned: Learned) -> None:
        """Let a model that has learned nothing have learned this."""
        if not learned.names:
            return
        scaler, linear = _steps(model)
        rows = [dict(zip(learned.names, row, strict=True)) for row in learned.state.tolist()]
        linear._weights = type(linear._weights)(rows[WEIGHT])  # noqa: SLF001 - River has no other way in
        linear.intercept = learned.intercept
        linear.optimizer.n_iterations = learned.seen
        for name, row in zip(_KEPT[self._optimizer], (FIRST, SECOND), strict=False):
            kept = type(linear._weights)(rows[row]) if self._optimizer == ADAM else defaultdict(float, rows[row])  # noqa: SLF001
            setattr(linear.optimizer, name, kept)
        if self._scaler == MIN_MAX:
            for name in learned.names:
                scaler.min[name].min = rows[CENTRE][name]
                scaler.max[name].max = rows[SPREAD][name]
        elif self._scaler != UNSCALED:
            scaler.counts = Counter({name: int(count) for name, count in rows[COUNT].items()})
            scaler.means = defaultdict(float, rows[CENTRE])
            if self._scaler == STANDARD:
                scaler.vars = defaultdict(float, rows[SPREAD])

    def contributions(self, learned: Learned, columns: Mapping[str, Floats]) -> Floats:
        """Return weight times scaled value of each column, a row per row, and in the last column the intercept.

        The scaler's own zero is what they are relative to: the mean, or the least, of what was learned.
        """
        made: Floats = np.zeros((len(next(iter(columns.values()))), len(columns) + 1))
        places = {name: at for at, name in enumerate(learned.names)}
        for column, (name, values) in enumerate(columns.items()):
            if (at := places.get(name)) is not None:  # of another one nothing was learned
                _, centre, spread, weight, *_ = learned.state[:, at].tolist()
                made[:, column] = weight * self._scaled(values, centre, spread)
        made[:, -1] = learned.intercept
        return made

    def _scaled(self, values: Floats, centre: float, spread: float) -> Any:
        if self._scaler == UNSCALED:
            return values
        if self._scaler == CENTRED:
            return values - centre
        wide = math.sqrt(spread) if self._scaler == STANDARD else spread - centre
        return (values - centre) / wide if wide else 0.0

    def dumped(self, learned: Learned) -> dict[str, Any]:
        """Return as plain data what a model of this kind has learned, whoever learned it."""
        state = learned.state.copy()
        state[np.isnan(state)] = (
            np.nan
        )  # which NaN it is depends on the order of operands, and is not for others to see
        return {
            "steps": self.steps,
            "names": list(learned.names),
            "seen": learned.seen,
            "intercept": learned.intercept if learned.intercept == learned.intercept else math.nan,
            "state": state,
        }

    def loaded(self, data: Mapping[str, Any]) -> Learned:
        """Return what ``dumped`` was given."""
        if data["steps"] != self.steps:
            raise ValueError(f"what {data['steps']} has learned does not fit {self.steps}")
        return Learned(tuple(data["names"]), data["seen"], data["intercept"], data["state"])


def _steps(model: Any) -> tuple[Any, Any]:
    """Return the scaler, if there is one, and the model after it."""
    if class_of(model) != PIPELINE:
        return None, model
    steps = list(model.steps.values())
    if len(steps) > 2:
        raise Unknown(f"the kernel knows a scaler and a model, and not {len(steps)} steps")
    return (None, steps[0]) if len(steps) == 1 else (steps[0], steps[1])


def _scaler_number(scaler: Any) -> int:
    if scaler is None:
        return UNSCALED
    if class_of(scaler) not in SCALERS:
        raise Unknown(f"the kernel does not know {_of(scaler)}")
    _has(scaler, SCALERS[class_of(scaler)])
    if scaler.window_size is not None:
        raise Unknown(f"{_of(scaler)}.window_size is {scaler.window_size!r}, and the kernel knows None")
    if _of(scaler) == "MinMaxScaler":
        return MIN_MAX
    if type(scaler.with_std) is not bool:
        raise Unknown(f"{_of(scaler)}.with_std is {scaler.with_std!r}, and the kernel knows True and False")
    return STANDARD if scaler.with_std else CENTRED


def _optimizer_numbers(optimizer: Any, number: int) -> list[float]:
    names = OPTIMIZERS[class_of(optimizer)]
    _has(optimizer, {"n_iterations", *names, *_KEPT[number], *(() if number == FTRL else ("lr",))})
    numbers = _numbers(optimizer, names, OPTIMIZER_ROOM)
    # Where River would divide by zero, it is left to River to say so.
    if number == ADAGRAD:
        sound = numbers[0] > 0
    elif number == ADAM:
        sound = 0 <= numbers[0] < 1 and 0 <= numbers[1] < 1 and numbers[2] > 0
    elif number == FTRL:
        alpha, beta, l1, l2 = numbers
        sound = alpha > 0 and min(beta, l1, l2) >= 0 and beta / alpha + l2 > _STEP_MIN
    else:
        sound = True
    if not sound:
        said = ", ".join(f"{name}={value}" for name, value in zip(names, numbers, strict=False))
        raise Unknown(f"the kernel does not know {_of(optimizer)} with {said}")
    return numbers


def _rate(owner: Any, name: str) -> tuple[float, float]:
    """Return a rate and the power of time by which it becomes less."""
    if not name:
        return 0.0, 0.0
    schedule = getattr(owner, name)
    if class_of(schedule) == "river.optim.schedulers.Constant":
        _has(schedule, {"learning_rate"})
        return _number(schedule, "learning_rate"), 0.0
    if class_of(schedule) == "river.optim.schedulers.InverseScaling":
        _has(schedule, {"learning_rate", "power"})
        return _number(schedule, "learning_rate"), _number(schedule, "power", most=_POWER_MAX)
    raise Unknown(f"{_of(owner)}.{name} is {_of(schedule)}, and the kernel knows Constant and InverseScaling")


def _numbers(owner: Any, names: tuple[str, ...], room: int) -> list[float]:
    return [*(_number(owner, name) for name in names), *[0.0] * (room - len(names))]


def _number(owner: Any, name: str, most: float = _NUMBER_MAX) -> float:
    value = getattr(owner, name)
    # A truth value, or a number of numpy's, brings other arithmetic along.
    if type(value) not in (int, float) or not abs(value) <= (_INTEGER_MAX if type(value) is int else most):
        raise Unknown(f"{_of(owner)}.{name} is {value!r}, and the kernel knows plain numbers that are not too large")
    return float(value)


def _has(owner: Any, names: set[str]) -> None:
    if vars(owner).keys() != names:
        odd = ", ".join(sorted(vars(owner).keys() ^ names))
        raise Unknown(f"{_of(owner)} is of another River than the kernel knows: it differs in {odd}")


def _of(thing: Any) -> str:
    return type(thing).__name__
