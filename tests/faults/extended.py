"""The job of the scenarios, with an agent, a timer and a page of somebody's own beside it."""

import os

from pipeline import pipeline

from headrace import extends

__all__ = ["pipeline"]

seen: list[str] = []
beats: list[int] = []


@extends
def take_notes(app):
    """Count the notes on a topic, and tell how many there were."""
    notes = app.topic(os.environ["NOTES"], value_serializer="json")

    @app.agent(notes)
    async def take_note(stream):
        async for note in stream:
            seen.append(note["text"])  # noqa: PERF401 - a stream has no end

    @app.timer(0.1)
    async def beat():
        beats.append(app.scorer.scored)

    @app.page("/notes/")
    async def page(view, request):
        return view.json({"seen": len(set(seen)), "beats": len(beats), "scored": app.scorer.scored})
