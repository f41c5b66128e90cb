"""Rows as TensorBoard events."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from optwrap.loggers.protocol import Logger, Place, Run


class TensorBoardLogger(Logger):
    """Scalars `split/name` over updates, and pictures, in the folder `tensorboard` of the run's folder."""

    packages: ClassVar = ("tensorboard", "tensorboard.summary.writer.event_file_writer")
    extra: ClassVar = "tensorboard"

    def start(self, run: Run) -> Collection[Place]:
        """Open a new file of events, beside those of earlier parts of the run; return the rows of those."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = run.folder / "tensorboard"
        there = [place for path in sorted(folder.glob("events.*")) for place in _places(path)]
        self._folder, self._update = run.folder, 0
        self._writer: Any = EventFileWriter(str(folder))
        return there

    def log(self, split: str, row: Mapping[str, float | int]) -> None:
        """Write one event, so that a killed run leaves all of a row or nothing."""
        self._update = int(row["update"])
        numbers = {f"{split}/{name}": float(value) for name, value in row.items() if name != "update"}
        self._write([{"tag": tag, "simple_value": value} for tag, value in numbers.items()])

    def artifact(self, path: Path) -> None:
        """Show a PNG; TensorBoard has no place for other files."""
        data = path.read_bytes()
        if data.startswith(b"\x89PNG"):
            width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
            image = {"encoded_image_string": data, "width": width, "height": height, "colorspace": 4}
            self._write([{"tag": f"files/{path.relative_to(self._folder).as_posix()}", "image": image}])

    def sync(self) -> None:
        """Write out what is pending."""
        self._writer.flush()

    def close(self, status: str) -> None:
        """Write out what is pending, and end the file."""
        self._writer.close()

    def _write(self, values: list[dict[str, Any]]) -> None:
        import time

        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(**each) for each in values])
        self._writer.add_event(Event(wall_time=time.time(), step=self._update, summary=summary))


def _places(path: Path) -> Iterator[Place]:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    for raw in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(raw)
        splits = {value.tag.partition("/")[0] for value in event.summary.value}
        yield from ((split, event.step) for split in splits - {"files"})
