"""When each update of a program was done; the benchmark reads it from the last line that it prints."""

import json
import statistics
import time
from pathlib import Path


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
        # Of this program alone: getrusage counts that of the process that started it.
        lines = Path("/proc/self/status").read_text().splitlines()
        memory = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
        seen = {
            "first": self.times[0],
            "gap": statistics.median(gaps),
            "updates": len(self.times),
            "memory": memory,
        }
        print("\nSTAMPS " + json.dumps(seen), flush=True)
