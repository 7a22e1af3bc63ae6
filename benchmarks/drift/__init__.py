"""Drift detection, side by side: worlds, what changes in them, who watches, and how they are judged.

Nothing in here but ``by_*.py`` needs more than numpy and scipy: a contestant runs in an environment of its own.
"""
