"""What is done about alerts, as a page says it, and what a partition has done of that.

A page names what is to be done when something is told: ``when={"errors": [fall_back, restart_learner]}``. Whoever
raises the alert gives the orders, in one order for the whole stream. Every partition follows each of them once, between
two steps, and keeps with its state how far it has come; so a state that is made again has done the same at the same
place.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.models.memory import NEVER
from headrace.schemas.alert import Severity
from headrace.schemas.order import Action, Moment, Order

ask_for_retraining = Action.ASK_FOR_RETRAINING
fall_back = Action.FALL_BACK
reweight = Action.REWEIGHT
restart_learner = Action.RESTART_LEARNER

ANY, ERRORS = "any", "errors"
# What something may be done about: the kinds of alerts, errors that have grown, and whatever is told.
WHEN = (ERRORS, "drift", "relation", "score", "quality", "volume", ANY)
BEGIN: Moment = (NEVER, 0)


class Rule(NamedTuple):
    """What is done about alerts of a kind, from a severity on."""

    kind: str
    severity: Severity
    actions: tuple[Action, ...]

    def holds(self, kinds: set[str], severity: Severity) -> bool:
        """Say whether it is about an alert of these kinds."""
        return (self.kind == ANY or self.kind in kinds) and severity.rank >= self.severity.rank


def rules_of(when: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Return what a page says is to be done, or raise ``ValueError`` with what is wrong with it.

    >>> rules_of({"errors": fall_back, "drift: high": [ask_for_retraining]})[1].severity
    <Severity.HIGH: 'high'>
    >>> rules_of({"drfit": [reweight]})
    Traceback (most recent call last):
    ValueError: when={'drfit': ...}: allowed are errors, drift, relation, score, quality, volume, any, each with a least
    severity behind it or without: 'drift: high'
    """
    return tuple(_rule(said, asked) for said, asked in when.items())


def _rule(said: str, asked: Any) -> Rule:
    kind, _, severity = (part.strip() for part in str(said).partition(":"))
    if kind not in WHEN or severity not in {"", *map(str, Severity)}:
        raise ValueError(
            f"when={{{said!r}: ...}}: allowed are {', '.join(WHEN)}, each with a least severity behind it or without: "
            "'drift: high'"
        )
    actions = [asked] if isinstance(asked, str) else list(asked)
    wrong = [one for one in actions if one not in set(Action)]
    if wrong or not actions:
        raise ValueError(
            f"when={{{said!r}: {asked!r}}}: allowed are {', '.join(Action)}, one or several; import them from headrace"
        )
    return Rule(kind, Severity(severity or Severity.LOW), tuple(dict.fromkeys(map(Action, actions))))


def asked_of(rules: Sequence[Rule]) -> set[Action]:
    """Return everything that may be done."""
    return {action for rule in rules for action in rule.actions}


def problems(rules: Sequence[Rule], *, learns: bool, both: bool, shared: bool) -> Iterator[str]:
    """Yield what cannot be done in a pipeline; ``both`` says that a static model and a learner are combined."""
    asked = asked_of(rules)
    if restart_learner in asked and not learns:
        yield "watch: restart_learner: there is no learner; name one by online="
    elif restart_learner in asked and shared:
        yield "watch: restart_learner: it restarts a partition's own learner, and this one is shared; leave one out"
    for action in (fall_back, reweight):
        if action in asked and not both:
            yield f"watch: {action}: it is about how a static model and a learner are combined, and there are not both"


class Obedience:
    """Which orders a partition has followed, and which of them hold.

    A partition that meets orders for the first time takes up what holds by then, and leaves out what was to be done
    once: it was not there, or did not ask for it.
    """

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self.upto: Moment | None = None  # None before it has met any
        self.holding: list[str] = []  # alerts because of which the learner does not count
        self.newest = self.since = NEVER  # of records of events: the last, and those before the combination began anew

    @property
    def falls_back(self) -> bool:
        """Say whether the static model counts alone."""
        return bool(self.holding)

    def news(self, heard: Sequence[Order]) -> "News | None":
        """Return what is to be done of what was heard so far; None where there is nothing new."""
        if self.upto is not None:
            if not heard or heard[-1].moment <= self.upto:
                return None
            fresh = [one for one in heard if one.moment > self.upto and one.action.here]
            return News(tuple(one for one in fresh if self._fits(one)), heard[-1].moment)
        holding: dict[str, Order] = {}
        for one in heard:
            if one.action.lasts and self._fits(one):
                holding.pop(one.alert, None)
                if not one.ends:
                    holding[one.alert] = one
        return News(tuple(holding.values()), heard[-1].moment if heard else BEGIN)

    def _fits(self, order: Order) -> bool:
        """Say whether an order is of today's watch: nobody would lift what another one has given."""
        return not order.action.lasts or order.reference == self._reference

    def hold(self, alert: str, *, ends: bool) -> None:
        """Let the static model count alone because of an alert, or because of it no more."""
        self.holding = [one for one in self.holding if one != alert] + ([] if ends else [alert])

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "reference": self._reference,
            "upto": None if self.upto is None else list(self.upto),
            "holding": list(self.holding),
            "times": [self.newest, self.since],
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned; what another watch has given holds no more."""
        self.upto = None if data["upto"] is None else (data["upto"][0], data["upto"][1])
        self.holding = list(data["holding"]) if data["reference"] == self._reference else []
        self.newest, self.since = data["times"]


class News(NamedTuple):
    """Orders that a partition is to follow, and up to where it has met them then."""

    orders: tuple[Order, ...]
    upto: Moment

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, for the changelog."""
        return {"orders": [[one.action.value, one.alert, one.ends] for one in self.orders], "upto": list(self.upto)}
