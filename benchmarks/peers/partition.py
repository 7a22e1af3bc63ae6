"""What a partition remembers in a process that forgets it at its end."""

from learning import Errors, features, fresh, online_score, static_score
from past import Past
from typed import Prediction


class Partition:
    """Windows by card, one learner, and how wrong it is."""

    def __init__(self):
        self.cards = {}
        self.learner = fresh()
        self.errors = Errors()

    def predict(self, event):
        """Take a labelled event in, and return its prediction."""
        past = self.cards.get(event.card)
        if past is None:
            past = self.cards[event.card] = Past()
        past.add(event.at, event.amount)
        x = features(past, event.at, event.amount, event.lat, event.lon, event.country)
        online = online_score(self.learner, self.errors, x, event.label)
        return Prediction(event.id, event.at, event.card, online, static_score(x), online)
