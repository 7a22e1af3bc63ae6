"""A learner's state as plain data and back, without pickle: what has a name in ``allowed`` can be kept, nothing else.

The data are a table of objects that refer to each other by number, so that what is shared stays shared, a tree's node
may know its parent, and nothing is too deep. An object is the number of its shape, the values of its attributes, and
what is in it beside them; a shape is a class and the names of attributes.
"""

import copy
import enum
import hashlib
import operator
import re
import struct
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
from river.__version__ import __version__ as river_version

from headrace.models.allowed import CLASSES, Unknown, allow, class_of_name
from headrace.models.anatomy import Plan, check_attribute, path_to, plan_of, unordered, unseeded
from headrace.models.nodes import AS_IT_IS, SIMPLE, WHOLE_MAX, WORDS, dump_of
from headrace.models.rust import Unfit, told
from headrace.models.snapshot import Unreadable
from headrace.schemas.errors import StateMismatch

__all__ = ["FORMAT", "MIGRATIONS", "NotKept", "allow", "digest", "freeze", "thaw", "unordered", "unseeded"]

FORMAT = 1
DEPTH_MAX = 50  # of tuples in tuples; objects may be as deep as they like

# What makes data of an older format, or of another River, those of a newer one. The key is the format's number, or
# River's minor version, such as "0.25". A migration returns the data, and in them of which format or River they are.
MIGRATIONS: dict[int | str, Callable[[dict[str, Any]], dict[str, Any]]] = {}


class NotKept(Exception):
    """A part of a learner that cannot be kept; the text says which and why."""


def freeze(estimator: Any) -> dict[str, Any]:
    """Return the state of a learner as data that ``snapshot.encode`` takes.

    >>> from river import compose, stats
    >>> mean = stats.Mean()
    >>> freeze(mean)["shapes"], freeze(mean)["objects"]
    ([['river.stats.mean:Mean', ['_mean', 'n']]], [[0, [0.0, 0.0]]])
    >>> freeze(compose.FuncTransformer(lambda x: x))
    Traceback (most recent call last):
    headrace.models.frozen.NotKept: estimator.func: a lambda cannot be kept: write it as a function, and allow() that
    """
    return _frozen(estimator, orderless=False)


def thaw(data: Any) -> Any:
    """Return the learner that these data are of. It goes on as if it had always been in memory.

    No class is called: objects are made empty and get their attributes. Raises ``Unreadable`` for data that are
    damaged or name what is not allowed, ``StateMismatch`` for those of another version that no migration knows.

    >>> from river import stats
    >>> mean = stats.Mean()
    >>> mean.update(3.0)
    >>> thaw(freeze(mean)).get()
    3.0
    >>> data = freeze(mean)
    >>> data["shapes"] = [["os:system", []]]
    >>> thaw(data)
    Traceback (most recent call last):
    headrace.models.snapshot.Unreadable: 'os:system' is no class that may be a part of a learner
    """
    try:
        return _Thawer(_migrated(data)).thaw()
    except (Unfit, Unknown) as error:
        raise Unreadable(str(error)) from error
    except _MALFORMED as error:
        raise Unreadable(f"the data of the learner are damaged: {type(error).__name__}: {error}") from error


def digest(estimator: Any) -> str:
    """Return what two learners have in common if and only if their states are equal, in whatever process they are.

    Equal is what Python says it is: the order in which a dict was filled does not count, that of an OrderedDict does.

    >>> from river import stats
    >>> a, b = stats.Mean(), stats.Mean()
    >>> a.update(3.0)
    >>> digest(a) == digest(b)
    False
    >>> b.update(3.0)
    >>> digest(a) == digest(b)
    True
    """
    data = _frozen(estimator, orderless=True)
    canonical = msgspec.msgpack.encode([data["format"], data["shapes"], data["objects"], data["root"]])
    return hashlib.sha256(canonical).hexdigest()


# What damaged data may lead to in the code that reads them.
_MALFORMED = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError),
    *(re.error, struct.error),
)


# ---- versions


def _migrated(data: Any) -> Any:
    """Return data of this format and this River, or raise ``StateMismatch`` and say what to do."""
    if not isinstance(data, dict) or type(data.get("format")) is not int or type(data.get("river")) is not str:
        raise Unreadable("these are no data of a learner: they do not say which format and which River they are of")
    for _ in range(len(MIGRATIONS) + 1):
        if data["format"] == FORMAT and _minor(data["river"]) == _minor(river_version):
            return data
        migrate = MIGRATIONS.get(data["format"] if data["format"] != FORMAT else _minor(data["river"]))
        if migrate is None:
            break
        kept = _differs(data)
        try:
            data = migrate(copy.deepcopy(data))
            _minor(data["river"]), operator.index(data["format"])
        except Exception as error:
            raise StateMismatch(f"{kept}, and its migration failed: {error!r}. {_NEXT}") from error
    raise StateMismatch(f"{_differs(data)}, and no migration leads there. {_NEXT}")


_NEXT = (
    "Run the version that kept it; or let the learner begin anew: from the events and labels in their topics as a new "
    "group, or from nothing by accept_state_loss = true"
)


def _differs(data: Any) -> str:
    kept = f"the learner was kept by River {told(data['river'])[1:-1]} in format {told(data['format'])}"
    return f"{kept}, and this is River {river_version} and format {FORMAT}"


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


# ---- to data


class _Unkept(Exception):
    """Something cannot be kept, and its path is not known yet."""

    def __init__(self, culprit: Any, reason: str) -> None:
        super().__init__(reason)
        self.culprit = culprit


def _frozen(estimator: Any, *, orderless: bool) -> dict[str, Any]:
    try:
        return _Freezer(orderless=orderless).freeze(estimator)
    except _Unkept as error:
        raise NotKept(f"{path_to(estimator, error.culprit)}: {error}") from error


class _Freezer:
    """Walks through a learner, object by object, and numbers them as it meets them."""

    def __init__(self, *, orderless: bool) -> None:
        self.orderless = orderless
        self._found: list[Any] = []  # which also keeps alive what has a number
        self._numbers: dict[int, int] = {}
        self._shapes: dict[tuple[Any, ...], tuple[int, Callable[[dict[str, Any]], Iterable[Any]]]] = {}
        self._named: dict[tuple[str, ...], int] = {}
        self._owners: dict[int, int] = {}
        self._depth = 0

    def freeze(self, root: Any) -> dict[str, Any]:
        """Return the data of a learner."""
        node = self.node(root)
        objects = []
        for held in self._found:  # which grows meanwhile
            try:
                objects.append(self._entry(held))
            except (Unfit, Unknown) as error:
                raise _Unkept(held, str(error)) from error
        shapes = [[name, attributes] for name, *attributes in self._named]
        return {
            "format": FORMAT,
            "river": river_version,
            "hashes": _hashes(),
            "shapes": shapes,
            "objects": objects,
            "root": node,
        }

    def node(self, value: Any) -> Any:
        """Return a value's node."""
        kind = type(value)
        try:
            dump = _dumps[kind]
        except KeyError:
            dump = _dumps[kind] = dump_of(kind)
        if dump is None:
            return value
        try:
            return dump(self, value)
        except (Unfit, Unknown) as error:
            raise _Unkept(value, str(error)) from error

    def __call__(self, values: Iterable[Any]) -> list[Any]:
        """Return the nodes of values: these as they are, where all of them can be."""
        several = list(values)
        kinds = set(map(type, several))
        if (
            kinds <= AS_IT_IS
            or (kinds == {str} and all(map(str.isascii, several)))
            or (kinds == {int} and min(several) >= -WHOLE_MAX and max(several) < WHOLE_MAX)
        ):
            return several
        return list(map(self.node, several))

    def reference(self, held: Any) -> list[int]:
        """Return an object's number as a node, and give it one if it has none."""
        number = self._numbers.get(id(held))
        if number is None:
            number = self._numbers[id(held)] = len(self._found)
            self._found.append(held)
        return [number]

    def inner(self, held: Any, word: str, *parts: Iterable[Any]) -> list[Any]:
        """Return a word, and the nodes of each of the parts of something that is a value itself."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise Unfit(f"a {type(held).__qualname__} in more than {DEPTH_MAX} others cannot be kept")
        made = [word, *map(self, parts)]
        self._depth -= 1
        return made

    def _entry(self, held: Any) -> list[Any]:
        kind: Any = type(held)
        plan = plan_of(kind)
        attributes = plan.attributes(held)
        if plan.rule:
            attributes = plan.rule.keep(attributes)
        shape = self._shapes.get((kind, *attributes))
        if shape is None:
            shape = self._shapes[kind, *attributes] = self._shape(plan.name, attributes)
        if isinstance(held, np.ndarray):
            self._own(held)
        number, ordered = shape
        kept = list(map(self.node, ordered(attributes)))
        content = plan.layout.dump(held, self)
        return [number, kept] if content is None else [number, kept, content]

    def _shape(self, name: str, attributes: Iterable[str]) -> tuple[int, Callable[[dict[str, Any]], Iterable[Any]]]:
        for attribute in attributes:
            check_attribute(attribute)
        # Attributes that came in another order are the same ones.
        ordered = sorted(attributes)
        number = self._named.setdefault((name, *ordered), len(self._named))
        if len(ordered) > 1:
            return number, operator.itemgetter(*ordered)
        return number, dict.values

    def _own(self, array: Any) -> None:
        """Refuse two arrays with one memory: what is written into one would no longer be seen in the other."""
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if self._owners.setdefault(id(owner), id(array)) != id(array):
            raise Unfit("an array that shares its memory with another one cannot be kept")


_dumps: dict[type, Any] = {}


def _hashes() -> int:
    """Return what is equal in two processes, as good as certainly, where strings have equal hashes."""
    return hash("headrace") % 2**32


# ---- from data


class _Shape:
    """A class, and the names of the attributes that values are given for."""

    def __init__(self, name: Any, attributes: list[str]) -> None:
        self.cls = class_of_name(name)
        self.plan: Plan = plan_of(self.cls)
        if self.plan.name != name or self.cls in _VALUES or issubclass(self.cls, enum.Enum):
            raise Unfit(f"{told(name)} is no class of an object")
        for attribute in attributes:
            check_attribute(attribute)
            if attribute not in self.plan.slots and not self.plan.has_dict:
                raise Unfit(f"a {self.cls.__qualname__} has no attribute {attribute!r}")
        self._attributes = attributes
        self._in_dict = self.plan.has_dict and self.plan.slots.keys().isdisjoint(attributes)

    def put(self, held: Any, values: list[Any]) -> None:
        """Give an object its attributes, past whatever its class would do then."""
        if self._in_dict:
            held.__dict__.update(zip(self._attributes, values, strict=True))
            return
        for attribute, value in zip(self._attributes, values, strict=True):
            if attribute in self.plan.slots:
                self.plan.slots[attribute].__set__(held, value)
            else:
                held.__dict__[attribute] = value


# Classes whose objects are nodes and never have a number.
_VALUES = {cls for cls in CLASSES.values() if dump_of(cls) is None or dump_of(cls) is not dump_of(list)}


class _Thawer:
    """Makes all objects, empty, and fills them then."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._shapes = [_Shape(name, attributes) for name, attributes in data["shapes"]]
        self._entries = [
            (self._shapes[_index(shape, self._shapes)], values, *(content or [None]))
            for shape, values, *content in data["objects"]
        ]
        self._root = data["root"]
        self.same_hashes = data.get("hashes") == _hashes()
        self._made: list[Any] = []
        self._depth = 0

    def thaw(self) -> Any:
        """Return the learner."""
        late = []
        for number, (shape, _, content) in enumerate(self._entries):
            if shape.plan.layout.join:
                late.append((number, shape.plan.layout.join, content))
            self._made.append(_LATE if shape.plan.layout.join else shape.plan.layout.make(shape.cls, content))
        for number, join, content in late:
            self._made[number] = join(content, self)
        for held, (shape, values, content) in zip(self._made, self._entries, strict=True):
            shape.put(held, self(values))
            shape.plan.layout.fill(held, content, self)
        for number, (shape, _, _) in enumerate(self._entries):
            if shape.plan.rule:
                shape.plan.rule.again(self._made[number], number)
        return self.value(self._root)

    def __call__(self, nodes: Any) -> list[Any]:
        """Return what nodes stand for."""
        if type(nodes) is not list:
            raise Unfit(f"{told(nodes)} stands where values belong")
        if set(map(type, nodes)) <= SIMPLE:
            return nodes.copy()
        return list(map(self.value, nodes))

    def value(self, node: Any) -> Any:
        """Return what a node stands for."""
        if type(node) is not list:
            if type(node) not in SIMPLE:
                raise Unfit(f"a {type(node).__qualname__} is no value of a learner")
            return node
        if len(node) == 1:
            held = self._made[_index(node[0], self._made)]
            if held is _LATE:
                raise Unfit("two vectors need each other to be made")
            return held
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise Unfit(f"a value is in more than {DEPTH_MAX} others")
        word, *parts = node
        if not isinstance(word, str) or word not in WORDS:
            raise Unfit(f"{told(word)} is no kind of value")
        made = WORDS[word](self, *parts)
        self._depth -= 1
        return made


_LATE = object()


def _index(number: Any, several: list[Any]) -> int:
    if type(number) is not int or not 0 <= number < len(several):
        raise Unfit(f"there is no number {told(number)}, only 0 to {len(several) - 1}")
    return number
