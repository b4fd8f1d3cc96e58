"""What the program says when a signal ends it."""

_KEPT = "what was done is kept, run the same command again to go on."
INTERRUPTED = f"interrupted; {_KEPT}"
TERMINATED = f"stopped by SIGTERM; {_KEPT}"
