"""What an object has in it beside its attributes, as plain data and back: containers, arrays, generators of numbers."""

import collections
import enum
import random
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from river._river_rust.vectordict import VectorDict

from headrace.models.memory import Array
from headrace.models.rust import RUST, Unfit, told

Part = tuple[str, Any]


class Nodes(Protocol):
    """Makes values plain, in the order in which they are given."""

    # Whether the order in which a dict was filled does not matter: for a digest.
    orderless: bool

    def __call__(self, values: Iterable[Any]) -> list[Any]:
        """Return plain data for each of the values."""


class Values(Protocol):
    """Makes values again of what is plain."""

    # Whether strings have the hashes that they had where they come from.
    same_hashes: bool

    def __call__(self, nodes: Any) -> list[Any]:
        """Return what plain data stand for."""


def _nothing(_held: Any, _nodes: Nodes) -> Any:
    return None


def _empty(cls: type, content: Any) -> Any:
    if content is not None:
        raise Unfit(f"a {cls.__qualname__} has nothing in it but its attributes")
    return object.__new__(cls)


def _full(_held: Any, _content: Any, _values: Values) -> None: ...


def _no_parts(_held: Any) -> Iterator[Part]:
    return iter(())


class Layout(NamedTuple):
    """How objects of a class are taken apart and made again.

    They refer to each other in circles, so ``make`` makes one that is empty, and ``fill`` fills it when all are there.
    Where ``join`` is given, it makes one when all others are there, because it cannot be filled later.
    """

    dump: Callable[[Any, Nodes], Any] = _nothing
    make: Callable[[type, Any], Any] = _empty
    fill: Callable[[Any, Any, Values], None] = _full
    parts: Callable[[Any], Iterator[Part]] = _no_parts
    join: Callable[[Any, Values], Any] | None = None


# ---- lists, deques, sets, bytearrays


def _listed(base: Any) -> Layout:
    """Elements in an order."""

    def dump(held: Any, nodes: Nodes) -> Any:
        return nodes(base.__iter__(held))

    def make(cls: type, _content: Any) -> Any:
        return base.__new__(cls)

    def fill(held: Any, content: Any, values: Values) -> None:
        base.extend(held, values(content))

    def parts(held: Any) -> Iterator[Part]:
        return ((f"[{at}]", value) for at, value in enumerate(base.__iter__(held)))

    return Layout(dump, make, fill, parts)


def _queued() -> Layout:
    listed = _listed(collections.deque)

    def dump(held: Any, nodes: Nodes) -> Any:
        return [held.maxlen, listed.dump(held, nodes)]

    def make(cls: type, content: Any) -> Any:
        length, _ = content
        made: Any = collections.deque.__new__(cls)
        collections.deque.__init__(made, (), None if length is None else _whole(length, 2**63 - 1))
        return made

    def fill(held: Any, content: Any, values: Values) -> None:
        listed.fill(held, content[1], values)

    return listed._replace(dump=dump, make=make, fill=fill)


def _dump_set(held: Any, nodes: Nodes) -> Any:
    kept = nodes(set.__iter__(held))
    if any(map(refers, kept)):
        raise Unfit("a set of objects has no order that another process knows")
    return sorted(kept, key=repr) if nodes.orderless else kept


def _make_set(cls: type, _content: Any) -> Any:
    return set.__new__(cls)


def _fill_set(held: Any, content: Any, values: Values) -> None:
    wanted = keys_of(values(content))
    set.update(held, wanted)
    if values.same_hashes and len(wanted) <= _SEARCHED_MAX:
        _order(held, wanted)


def _order(held: Any, wanted: list[Any]) -> None:
    """Fill a set so that one goes through it as before, if possible.

    Its order shows: River's Select gives features in it, and the sum of their products has other last bits in another.
    It is that of the hashes, and where two want the same place, of who came first. So whoever is in a place too early
    is let in later, until all are where they were: a search, which for small sets hardly ever ends without a result.
    """
    coming = best = wanted
    reached = -1
    rng = random.Random(0)  # noqa: S311 - no secret
    for _ in range(_TURNS):
        set.clear(held)
        set.update(held, coming)
        found = list(set.__iter__(held))
        if found == wanted:
            return
        at = next(at for at, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1])
        if at >= reached:
            reached, best = at, coming
        elif rng.random() < 0.3:
            coming = best
            continue
        early, late, chance = found[at], wanted[at], rng.random()
        moved = late if 0.45 <= chance < 0.7 else early if chance < 0.9 else rng.choice(coming)
        coming = [one for one in coming if one != moved]
        coming.insert(len(coming) if chance < 0.45 else 0 if chance < 0.7 else rng.randrange(len(wanted)), moved)


_TURNS = 2_000
_SEARCHED_MAX = 64


def _parts_of_set(held: Any) -> Iterator[Part]:
    return ((f"{{{told(value)}}}", value) for value in set.__iter__(held))


def refers(node: Any) -> bool:
    """Say whether a node has a reference to an object in it.

    >>> refers([3]), refers(["tuple", ["a", [3]]]), refers(["tuple", [3]])
    (True, True, False)
    """
    if type(node) is not list:
        return False
    if type(node[0]) is int or node[0] == "method":
        return True
    return any(refers(inner) for part in node[1:] if type(part) is list for inner in part)


def _dump_bytes(held: Any, _nodes: Nodes) -> Any:
    return bytes(held)


def _make_bytes(_cls: type, content: Any) -> Any:
    return bytearray(_bytes(content))


# ---- dicts


def _dump_pairs(held: Mapping[Any, Any], nodes: Nodes) -> list[Any]:
    """Return the nodes of keys and of values: in the dict's order, because sums go in it, and floats notice."""
    kept = nodes(keys_of(list(held)))
    if not nodes.orderless or isinstance(held, collections.OrderedDict) or any(map(refers, kept)):
        return [kept, nodes(held.values())]
    by = kept if set(map(type, kept)) in ({str}, {int}) else list(map(repr, kept))
    order = sorted(range(len(by)), key=by.__getitem__)
    values = list(held.values())
    return [[kept[at] for at in order], nodes([values[at] for at in order])]


def _parts_of_pairs(held: Mapping[Any, Any]) -> Iterator[Part]:
    for key, value in held.items():
        yield f"[{told(key)}] (the key)", key
        yield f"[{told(key)}]", value


def _mapped(base: Any) -> Layout:
    def dump(held: Any, nodes: Nodes) -> Any:
        return _dump_pairs(_seen_as(base, held), nodes)

    def make(cls: type, _content: Any) -> Any:
        return base.__new__(cls)

    def fill(held: Any, content: Any, values: Values) -> None:
        keys, items = content
        pairs = zip(keys_of(values(keys)), values(items), strict=True)
        if base is dict:
            dict.update(held, pairs)
        else:
            for key, item in pairs:
                base.__setitem__(held, key, item)

    def parts(held: Any) -> Iterator[Part]:
        return _parts_of_pairs(_seen_as(base, held))

    return Layout(dump, make, fill, parts)


def _seen_as(base: Any, held: Any) -> Any:
    """Return a dict as its base would show it, whatever its class makes of that."""
    return held if type(held) in _DICTS else base(zip(base.keys(held), base.values(held), strict=True))


_DICTS = {dict, collections.defaultdict, collections.Counter, collections.OrderedDict}


def _defaulting() -> Layout:
    mapped = _mapped(dict)

    def dump(held: Any, nodes: Nodes) -> Any:
        return [*nodes([held.default_factory]), *mapped.dump(held, nodes)]

    def make(cls: type, _content: Any) -> Any:
        return collections.defaultdict.__new__(cls)

    def fill(held: Any, content: Any, values: Values) -> None:
        factory, *rest = content
        held.default_factory = _callable(*values([factory]))
        mapped.fill(held, rest, values)

    def parts(held: Any) -> Iterator[Part]:
        yield ".default_factory", held.default_factory
        yield from mapped.parts(held)

    return Layout(dump, make, fill, parts)


def _dump_vector(held: Any, nodes: Nodes) -> Any:
    _, (data, factory, mask, _) = held.__reduce__()
    if mask is not None:
        raise Unfit("a VectorDict with a mask cannot be kept: it is in the middle of learning")
    return [*nodes([factory]), *_dump_pairs(data, nodes)]


def _make_vector(_cls: type, _content: Any) -> Any:
    return None


def _join_vector(content: Any, values: Values) -> Any:
    factory, keys, numbers = content
    if set(map(type, numbers)) - {float}:
        raise Unfit("a VectorDict has numbers in it and nothing else")
    return VectorDict(
        dict(zip(keys_of(values(keys)), numbers, strict=True)),
        _callable(*values([factory])),
    )


def _parts_of_vector(held: Any) -> Iterator[Part]:
    _, (data, factory, mask, _) = held.__reduce__()
    yield ".default_factory", factory
    yield ".mask", mask
    yield from _parts_of_pairs(data)


_USUAL = {str, int, float, bool, type(None), bytes}


def _is_key(key: Any) -> bool:
    kind = type(key)
    if issubclass(kind, tuple | frozenset):
        return kind.__hash__ in (tuple.__hash__, frozenset.__hash__) and all(map(_is_key, key))
    hashes: tuple[Any, ...] = (object.__hash__, enum.Enum.__hash__)
    return kind in _USUAL or kind.__module__ in ("numpy", "datetime", "decimal") or kind.__hash__ in hashes


def keys_of(keys: list[Any]) -> list[Any]:
    """Return keys, none with a hash that somebody wrote: it would be called on what is only half made again."""
    if not set(map(type, keys)) <= _USUAL:
        for key in keys:
            if not _is_key(key):
                raise Unfit(f"a {type(key).__qualname__} cannot be kept as a key: its class has a hash of its own")
    return keys


# ---- arrays


def _dump_array(held: Any, nodes: Nodes) -> Any:
    if type(held) is not np.ndarray:
        raise Unfit(f"an array of the class {type(held).__qualname__} cannot be kept")
    # Products of matrices have other last bits where the order in memory is another one.
    order: Literal["C", "F"] = "F" if held.flags.f_contiguous and not held.flags.c_contiguous else "C"
    if held.dtype == object:
        return ["O", list(held.shape), order, nodes(held.ravel(order).tolist())]
    return [dtype_name(held.dtype), list(held.shape), order, held.tobytes(order)]


def _make_array(_cls: type, content: Any) -> Any:
    kind, shape, order, data = content
    if order not in ("C", "F"):
        raise Unfit(f"{told(order)} is no order of an array")
    count = 1
    for length in shape:
        count *= _whole(length, 2**63 - 1)
    if kind == "O":
        if type(data) is not list or len(data) != count:
            raise Unfit(f"an array of {count} objects has another number of them in it")
        return np.empty(shape, object, order)
    flat: Array = np.frombuffer(_bytes(data), dtype_of(kind))
    # A copy: bytes cannot be written into, and begin wherever they begin.
    return flat.reshape(shape, order=order).copy(order)


def _fill_array(held: Any, content: Any, values: Values) -> None:
    if held.dtype == object:
        flat = np.empty(held.size, object)
        flat[:] = values(content[3])
        held[...] = flat.reshape(held.shape, order=content[2])


def _parts_of_array(held: Any) -> Iterator[Part]:
    if held.dtype == object:
        yield from ((f".flat[{at}]", value) for at, value in enumerate(held.ravel().tolist()))


_KINDS = frozenset("?bhilqBHILQefdFDmMSU")


def dtype_name(dtype: Any) -> str:
    """Return the name of a type of numpy's that every machine knows.

    >>> dtype_name(np.dtype(float))
    '<f8'
    """
    if dtype.char not in _KINDS:
        raise Unfit(f"an array or a number of the type {dtype} cannot be kept")
    return str(dtype.str)


def dtype_of(name: Any) -> "np.dtype[Any]":
    """Return the type of that name."""
    if not isinstance(name, str) or len(name) > 20:
        raise Unfit(f"{told(name)} is no type of a number")
    dtype = np.dtype(name)
    if dtype.char not in _KINDS or dtype.str != name:
        raise Unfit(f"{told(name)} is no type of a number that may be kept")
    return dtype


# ---- generators of random numbers


def _dump_random(held: Any, _nodes: Nodes) -> Any:
    version, words, _ = held.getstate()  # the third is an attribute too
    return [version, struct.pack("<625I", *words)]


def _make_random(cls: type, content: Any) -> Any:
    version, words = content
    made: Any = random.Random.__new__(cls)
    random.Random.setstate(made, (_whole(version, 3), struct.unpack("<625I", _bytes(words)), None))
    return made


def _dump_state(held: Any, _nodes: Nodes) -> Any:
    state = held.get_state(legacy=False)
    return [*_twister(state), state["has_gauss"], float(state["gauss"])]


def _make_state(_cls: type, content: Any) -> Any:
    words, position, has_gauss, gauss = content
    made = np.random.RandomState(0)
    made.set_state({**_twisted(words, position), "has_gauss": _whole(has_gauss, 1), "gauss": float(gauss)})
    return made


def _dump_generator(held: Any, _nodes: Nodes) -> Any:
    state = held.bit_generator.state
    kind = type(held.bit_generator)
    if kind is np.random.MT19937:
        return ["MT19937", *_twister(state)]
    if kind is not np.random.PCG64:
        raise Unfit(f"numpy's {kind.__qualname__} cannot be kept: take np.random.default_rng(seed)")
    inner = (state["state"][name].to_bytes(16, "little") for name in ("state", "inc"))
    return ["PCG64", *inner, state["has_uint32"], state["uinteger"]]


def _make_generator(_cls: type, content: Any) -> Any:
    kind, *rest = content
    if kind == "MT19937":
        bits: Any = np.random.MT19937(0)
        bits.state = _twisted(*rest)
    elif kind == "PCG64":
        state, increment, has_half, half = rest
        inner = {"state": int.from_bytes(_bytes(state), "little"), "inc": int.from_bytes(_bytes(increment), "little")}
        held = {"has_uint32": _whole(has_half, 1), "uinteger": _whole(half, 2**32 - 1)}
        bits = np.random.PCG64(0)
        bits.state = {"bit_generator": "PCG64", "state": inner, **held}
    else:
        raise Unfit(f"{told(kind)} is no generator of random numbers that may be kept")
    return np.random.Generator(bits)


def _twister(state: dict[str, Any]) -> list[Any]:
    return [state["state"]["key"].astype("<u4").tobytes(), int(state["state"]["pos"])]


def _twisted(words: Any, position: Any) -> dict[str, Any]:
    key: Array = np.frombuffer(_bytes(words), "<u4").astype(np.uint32)
    if len(key) != 624:
        raise Unfit(f"a Mersenne twister has 624 words, not {len(key)}")
    # numpy does not look: beyond its words it would read whatever lies there.
    return {"bit_generator": "MT19937", "state": {"key": key, "pos": _whole(position, 624)}}


# ---- which of them a class has


def _rust(numbers: Any) -> Layout:
    def dump(held: Any, _nodes: Nodes) -> Any:
        return numbers.dump(held)

    return Layout(dump, numbers.make)


# In the order in which a class is asked: the first that it derives from says what it has in it.
_LAYOUTS: list[tuple[type, Layout]] = [
    (collections.defaultdict, _defaulting()),
    (collections.OrderedDict, _mapped(collections.OrderedDict)),
    (dict, _mapped(dict)),
    (list, _listed(list)),
    (collections.deque, _queued()),
    (set, Layout(_dump_set, _make_set, _fill_set, _parts_of_set)),
    (bytearray, Layout(_dump_bytes, _make_bytes)),
    (np.ndarray, Layout(_dump_array, _make_array, _fill_array, _parts_of_array)),
    (random.Random, Layout(_dump_random, _make_random)),
    (np.random.RandomState, Layout(_dump_state, _make_state)),
    (np.random.Generator, Layout(_dump_generator, _make_generator)),
    (VectorDict, Layout(_dump_vector, _make_vector, parts=_parts_of_vector, join=_join_vector)),
    *((cls, _rust(numbers)) for cls, numbers in RUST.items()),
    (object, Layout()),
]


HOLDERS = frozenset(base for base, _ in _LAYOUTS)


def layout_of(cls: type) -> Layout:
    """Return how objects of a class are kept beside their attributes."""
    return next(layout for base, layout in _LAYOUTS if issubclass(cls, base))


def _callable(factory: Any) -> Any:
    if factory is not None and not callable(factory):
        raise Unfit(f"{told(factory)} cannot be called, and is no factory")
    return factory


def _bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise Unfit(f"{told(data)} stands where bytes belong")
    return data


def _whole(number: Any, most: int) -> int:
    if type(number) is not int or not 0 <= number <= most:
        raise Unfit(f"{told(number)} is no number from 0 to {most}")
    return number
