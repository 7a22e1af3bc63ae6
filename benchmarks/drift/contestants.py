"""Who takes part: permanent names, where each runs, and how much of the work it gets."""

import importlib
import importlib.util
from dataclasses import dataclass

from drift.contestant import Contestant


@dataclass(frozen=True)
class Entry:
    """One row of the table."""

    name: str
    title: str
    where: str  # module:class
    peer: str | None = None  # whose environment it runs in; None is the one that runs this
    share: float = 1.0  # of the events and seeds: what is slow gets less
    promised: bool = False  # its knob is the common rate itself: it is not tuned
    needs: str = ""  # a module without which it cannot take part
    errors_only: bool = False
    note: str = ""

    def missing(self) -> str:
        """Return why it cannot take part here, or nothing."""
        if not self.needs:
            return ""
        try:
            found = importlib.util.find_spec(self.needs)
        except ModuleNotFoundError:
            found = None
        return "" if found else f"{self.needs} is not there"

    def make(self, knob: float, seed: int) -> Contestant:
        """Return a fresh one."""
        module, _, name = self.where.partition(":")
        return getattr(importlib.import_module(module), name)(knob, seed)


_MONITOR = "headrace.models.monitor"
ENTRIES = (
    Entry("headrace-promised", "Headrace, as it promises", "drift.by_headrace:Headrace", promised=True, needs=_MONITOR,
          note="its knob is the promise itself: it is told the common rate, and nothing is tuned"),
    Entry("headrace", "Headrace, tuned", "drift.by_headrace:Headrace", needs=_MONITOR),
    Entry("river-adwin", "River ADWIN", "drift.by_river:Adwin"),
    Entry("river-page-hinkley", "River Page-Hinkley", "drift.by_river:PageHinkley"),
    Entry("river-kswin", "River KSWIN", "drift.by_river:Kswin", share=0.2,
          note="looks at one event of fifty, and gets a fifth of the runs: a look is a test of each series, and the "
          "cost is that of a look at every event"),
    Entry("river-ddm", "River DDM (errors only)", "drift.by_river:Ddm", errors_only=True),
    Entry("alibi-1000", "alibi-detect, batches of 1,000", "drift.by_alibi:Alibi", peer="alibi", share=0.5,
          note="half of the runs"),
    Entry("alibi-5000", "alibi-detect, batches of 5,000", "drift.by_alibi:AlibiLarge", peer="alibi", share=0.5),
    Entry("evidently-1000", "Evidently, batches of 1,000", "drift.by_evidently:Evidently", peer="evidently", share=0.1,
          note="a tenth of the runs, for the same reason: a batch takes half a second, without the report around it"),
    Entry("evidently-5000", "Evidently, batches of 5,000", "drift.by_evidently:EvidentlyLarge", peer="evidently",
          share=0.3, note="three tenths of the runs"),
    Entry("always-fire", "alarms at random", "drift.contestant:Always"),
)  # fmt: skip
BY_NAME = {entry.name: entry for entry in ENTRIES}
