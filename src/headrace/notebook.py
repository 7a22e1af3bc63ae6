"""What a worker has published, for notebooks: frames of pandas, plots, and the story of one event.

>>> from headrace.notebook import explain, plot_drift, plot_quality, plot_scores, predictions, tail

``pip install 'headrace[notebook]'`` brings pandas and matplotlib, which are imported when they are used.
"""

from headrace.stream.notebook import Explained, explain, plot_drift, plot_quality, plot_scores, predictions, tail

__all__ = ["Explained", "explain", "plot_drift", "plot_quality", "plot_scores", "predictions", "tail"]
