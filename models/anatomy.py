"""What a learner consists of: the attributes of each object, what is in it, and the paths that lead there."""

import functools
import inspect
import random
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from river.base import Base

from headrace.models.allowed import Unknown, name_of_class
from headrace.models.layouts import HOLDERS, Layout, Part, layout_of
from headrace.models.rust import Unfit


class Rule(NamedTuple):
    """What is done with attributes of a class of River's that make sense in one process only."""

    keep: Callable[[dict[str, Any]], dict[str, Any]]
    again: Callable[[Any, int], None]  # is given the object and its number when all objects are made


class Plan(NamedTuple):
    """How objects of a class are taken apart."""

    name: str
    layout: Layout
    slots: dict[str, Any]
    has_dict: bool
    rule: Rule | None

    def attributes(self, held: Any) -> dict[str, Any]:
        """Return its attributes by name, which are not to be changed."""
        if not self.slots:
            return held.__dict__ if self.has_dict else {}
        found = dict(held.__dict__) if self.has_dict else {}
        for name, slot in self.slots.items():
            try:
                found[name] = slot.__get__(held)
            except AttributeError:
                continue  # nothing was put in yet
        return found


@functools.cache
def plan_of(cls: Any) -> Plan:
    """Return how objects of a class are taken apart, or raise ``Unknown``."""
    name = name_of_class(cls)
    slots = {
        slot.__name__: slot
        for base in cls.__mro__
        if base not in HOLDERS  # what is in these is the business of their layout
        for slot in vars(base).values()
        if isinstance(slot, types.MemberDescriptorType)
    }
    return Plan(name, layout_of(cls), slots, bool(cls.__dictoffset__), _RULES.get(name))


def check_attribute(name: Any) -> None:
    """Raise for a name that belongs to Python itself."""
    if not isinstance(name, str) or not name.isidentifier() or (name.startswith("__") and name.endswith("__")):
        raise Unfit(f"{name!r} is no name of an attribute that may be kept")


# ---- rules


def _keep_rules(attributes: dict[str, Any]) -> dict[str, Any]:
    return {**attributes, "_rules": list(attributes["_rules"].values())}


def _rules_again(estimator: Any, _: int) -> None:
    # River's keys are addresses, and the rule that it makes next must not get the same.
    estimator._rules = {object.__hash__(rule): rule for rule in estimator._rules}  # noqa: SLF001


def _keep_leaves(attributes: dict[str, Any]) -> dict[str, Any]:
    return {**attributes, "_leaf_indices": [list(tree.iter_leaves()) for tree in attributes["trees"]]}


def _leaves_again(estimator: Any, _: int) -> None:
    numbered = [{id(leaf): at for at, leaf in enumerate(leaves)} for leaves in estimator._leaf_indices]  # noqa: SLF001
    estimator._leaf_indices = numbered  # noqa: SLF001


def _keep_distribution(attributes: dict[str, Any]) -> dict[str, Any]:
    return {**attributes, "_rng": None} if attributes["seed"] is None else attributes


def _distribution_again(distribution: Any, number: int) -> None:
    if distribution.seed is None:
        distribution._rng = random.Random(number)  # noqa: SLF001, S311


_DISTRIBUTIONS = ("beta:Beta", "gaussian:Gaussian", "gaussian:MultivariateGaussian", "multinomial:Multinomial")

_RULES = {
    "river.rules.amrules:AMRules": Rule(_keep_rules, _rules_again),
    "river.feature_extraction.kernel_approx:RandomTreesEmbedding": Rule(_keep_leaves, _leaves_again),
    # Trees and naive Bayes have a distribution for every feature and class, each with a generator of 2.5 kB that
    # nothing ever draws from. Without a seed it is another one in every process, and no part of what was learned.
    **{f"river.proba.{name}": Rule(_keep_distribution, _distribution_again) for name in _DISTRIBUTIONS},
}


# ---- paths


def parts_of(held: Any) -> Iterator[Part]:
    """Yield what an object or a value consists of, each part with how one comes to it.

    >>> list(parts_of([7, "a"]))
    [('[0]', 7), ('[1]', 'a')]
    """
    kind: Any = type(held)
    if isinstance(held, type | bool | int | float | str | bytes) or held is None:
        return
    if isinstance(held, functools.partial):
        yield ".func", held.func
        yield from ((f".args[{at}]", value) for at, value in enumerate(held.args))
        yield from ((f".keywords[{name!r}]", value) for name, value in held.keywords.items())
    elif isinstance(held, types.MethodType):
        yield ".__self__", held.__self__
    elif issubclass(kind, tuple | frozenset):
        yield from ((f"[{at}]", value) for at, value in enumerate(held))
    else:
        try:
            plan = plan_of(kind)
        except Unknown:
            return
        yield from ((f".{name}", value) for name, value in plan.attributes(held).items())
        yield from plan.layout.parts(held)


def walk(root: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield everything that a learner consists of, once, with the shortest path to it and what holds it."""
    seen = {id(root): root}
    todo: deque[tuple[str, Any, Any]] = deque([("estimator", root, None)])
    while todo:
        path, held, holder = todo.popleft()
        yield path, held, holder
        for step, part in parts_of(held):
            if id(part) not in seen:
                seen[id(part)] = part
                todo.append((path + step, part, held))


def path_to(root: Any, part: Any) -> str:
    """Return the shortest path to a part of a learner."""
    return next((path for path, held, _ in walk(root) if held is part), "estimator")


# ---- what is another learner in every process


def unseeded(estimator: Any) -> list[str]:
    """Return the parameters, by their paths, that make a learner another one each time because they are None.

    Where no parameter would help, the path comes with what it is.

    >>> from river import forest, linear_model, optim
    >>> unseeded(forest.ARFClassifier()), unseeded(forest.ARFClassifier(seed=7))
    (['estimator.seed'], [])
    >>> unseeded(linear_model.LogisticRegression(initializer=optim.initializers.Normal()))
    ['estimator.initializer.seed']
    """
    found = []
    in_river: dict[int, bool] = {}
    for path, held, holder in walk(estimator):
        inside = in_river.get(id(holder), False)
        in_river[id(held)] = isinstance(held, Base) if hasattr(held, "__dict__") else inside
        if not isinstance(held, Base):
            continue
        cls: Any = type(held)
        if _name(cls) == "river.stats.kolmogorov_smirnov:KolmogorovSmirnov":
            found.append(f"{path} (KolmogorovSmirnov draws from the module random)")
        # What has a distribution without a seed in it does not draw from it.
        if not (inside and cls.__module__.startswith("river.proba.")):
            found += [f"{path}.{seed}" for seed in _seeds(cls) if getattr(held, seed, 0) is None]
    return found


@functools.cache
def _seeds(cls: Any) -> tuple[str, ...]:
    names = inspect.signature(cls).parameters
    return tuple(name for name in ("seed", "random_state") if name in names)


def unordered(estimator: Any) -> list[str]:
    """Return the parts, by their paths, that go through a set of strings, so that it shows.

    Its order is another one in every process that does not get a PYTHONHASHSEED: with the same one, they are the same.

    >>> from river import compose, linear_model
    >>> unordered(compose.Select("amount", "night") | linear_model.LogisticRegression())
    ["estimator.steps['Select'] (Select gives its features in the order of a set)"]
    """
    found = []
    for path, held, _ in walk(estimator):
        cls: Any = type(held)
        if isinstance(held, Base) and (why := _BY_SETS.get(_name(cls))) and len(getattr(held, "keys", "12")) > 1:
            found.append(f"{path} ({cls.__name__} {why})")
    return found


def _name(cls: Any) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


_LABELS = "goes through a set of labels, which shows where they are strings"
_DRAWS = "draws numbers in the order of a set"
_BY_SETS = {
    "river.cluster.clustream:CluStream": _DRAWS,
    "river.cluster.k_means:KMeans": _DRAWS,
    "river.compose.select:Select": "gives its features in the order of a set",
    "river.dummy:NoChangeClassifier": _LABELS,
    "river.forest.aggregated_mondrian_forest:AMFClassifier": _LABELS,
    "river.multiclass.ovo:OneVsOneClassifier": _LABELS,
    "river.neighbors.knn_classifier:KNNClassifier": _LABELS,
    "river.tree.hoeffding_adaptive_tree_classifier:HoeffdingAdaptiveTreeClassifier": _LABELS,
    "river.tree.isoup_tree_regressor:ISOUPTreeRegressor": "gives its targets in the order of a set",
}
