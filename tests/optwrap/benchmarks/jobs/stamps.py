"""When each update of a program was done; the benchmark reads it from the last line that it prints."""

import json
import resource
import statistics
import time


class Stamps:
    """The wall-clock times at which updates ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def update(self) -> None:
        """Note that an update is done."""
        self.times.append(time.time())

    def report(self) -> None:
        """Print the first time, and the median seconds between two, which evaluations do not move."""
        gaps = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
        seen = {
            "first": self.times[0],
            "gap": statistics.median(gaps),
            "updates": len(self.times),
            "memory": memory,
        }
        print("\nSTAMPS " + json.dumps(seen), flush=True)
