"""Features, models and the one order in which they run: deterministic, no I/O, no clock."""

if __name__ != "headrace.models":
    raise ImportError(f"import this package as headrace.models, not as {__name__}")
