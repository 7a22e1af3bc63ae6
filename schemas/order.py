"""What a watch has done about an alert, and where it was done: the record of who did what, when and why."""

from enum import StrEnum

import msgspec


class Action(StrEnum):
    """What may be done about an alert by itself. The values are stable."""

    ASK_FOR_RETRAINING = "ask_for_retraining"
    FALL_BACK = "fall_back"
    REWEIGHT = "reweight"
    RESTART_LEARNER = "restart_learner"

    @property
    def lasts(self) -> bool:
        """Say whether it holds for as long as its alert is open, and not only once."""
        return self is Action.FALL_BACK

    @property
    def here(self) -> bool:
        """Say whether workers do it, in every partition; the other is for whoever reads the record."""
        return self is not Action.ASK_FOR_RETRAINING


class OrderState(StrEnum):
    """What is said of an order. The values are stable."""

    GIVEN = "given"
    LIFTED = "lifted"  # what lasts is over: its alert was cleared
    APPLIED = "applied"  # in one partition


Moment = tuple[float, int]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is to be done because of an alert, that is over, or that a partition has done.

    ``id`` names the record: the same one is never told with two. ``at`` is when the alert was told, in the time of
    the events, and with ``number`` the place of the order among all. ``alert``, ``kind``, ``series``, ``slice``,
    ``severity`` and ``text`` are those of the alert: why it is done. ``reference`` is the fingerprint of what the alert
    was told by. Of what was applied, ``partition`` says where, and ``offset`` from which event on it holds.

    >>> order = Order(id="a-1/reweight", at=12.5, number=3, action=Action.REWEIGHT, state=OrderState.GIVEN, alert="a-1")
    >>> msgspec.json.encode(order)
    b'{"id":"a-1/reweight","at":12.5,"number":3,"action":"reweight","state":"given","alert":"a-1","kind":"",...}'
    >>> order.applied(2, offset=700).id
    'a-1/reweight/2'
    """

    id: str
    at: float
    number: int
    action: Action
    state: OrderState
    alert: str
    kind: str = ""
    series: str = ""
    slice: str = ""
    severity: str = ""
    text: str = ""
    pipeline: str = ""
    version: str = ""
    reference: str = ""
    partition: int | None = None
    offset: int | None = None
    lifted: bool = False  # of what was applied: that it is over

    @property
    def moment(self) -> Moment:
        """Where it stands among all orders."""
        return self.at, self.number

    @property
    def ends(self) -> bool:
        """Say whether something is over by it."""
        return self.lifted or self.state is OrderState.LIFTED

    def applied(self, partition: int, *, offset: int) -> "Order":
        """Return what is told when a partition has done it, from an offset on."""
        return msgspec.structs.replace(
            self,
            id=f"{self.id}/{partition}",
            state=OrderState.APPLIED,
            partition=partition,
            offset=offset,
            lifted=self.ends,
        )
