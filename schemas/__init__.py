"""What goes over the wire, and every option."""

if __name__ != "headrace.schemas":
    raise ImportError(f"import this package as headrace.schemas, not as {__name__}")
