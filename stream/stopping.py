"""What asks a command to stop."""

import signal
import threading


def asked_to_stop() -> threading.Event:
    """Return an event that is set by Ctrl-C, by SIGTERM, and when the terminal is closed (but for ``nohup``)."""
    asked = threading.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, lambda _number, _frame: asked.set())
    return asked
