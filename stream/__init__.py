"""Everything that touches the world: Faust, Kafka, files, the command line."""

if __name__ != "headrace.stream":
    raise ImportError(f"import this package as headrace.stream, not as {__name__}")
