"""The function that PyFlink calls for each event. On a page of its own: what stands on the first page is pickled."""

from collections import defaultdict

from learning import Errors, dump, features, fresh, load, online_score, static_score
from past import Past
from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor
from typed import Prediction, decode_labelled, encode


class Learning(KeyedProcessFunction):
    """What one partition remembers, in Flink's state."""

    def open(self, context):
        self._pasts = context.get_map_state(MapStateDescriptor("pasts", Types.STRING(), Types.PICKLED_BYTE_ARRAY()))
        self._learner = context.get_state(ValueStateDescriptor("learner", Types.PICKLED_BYTE_ARRAY()))
        self._known = {}
        self._errors = defaultdict(Errors)

    def process_element(self, row, _context):
        value, partition = row
        event = decode_labelled(value)
        past = Past(*(self._pasts.get(event.card) or ()))
        past.add(event.at, event.amount)
        self._pasts.put(event.card, past.dump())
        learner = self._known.get(partition)
        if learner is None:
            kept = self._learner.value()
            learner = self._known[partition] = load(kept) if kept else fresh()
        x = features(past, event.at, event.amount, event.lat, event.lon, event.country)
        online = online_score(learner, self._errors[partition], x, event.label)
        self._learner.update(dump(learner))
        prediction = Prediction(event.id, event.at, event.card, online, static_score(x), online)
        yield Row(event.card, encode(prediction).decode())
