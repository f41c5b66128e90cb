"""Schedules written in parts: from a list, or a mapping of names, to where each part lies and its shape."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.schedule.arguments import Arguments, Span
from optwrap.optim.schedule.lengths import Clock, Updates
from optwrap.optim.schedule.shapes import SHAPES, Shape

PLATEAU = "plateau"
_SHAPES = (*SHAPES, PLATEAU)
_OF_A_PART = ("from", "until", "per", "endpoint")
_WORDS = (*_SHAPES, *_OF_A_PART)
_FORM = "{linear: {start_factor: 0.1}, until: 500}"


@dataclass(frozen=True)
class Part:
    """A shape and where it acts; a plateau, which has none, acts on metrics from there on."""

    key: str
    span: Span
    shape: Shape | None

    @property
    def first(self) -> int:
        """The first update that it acts on."""
        return math.ceil(self.span.begin)


@dataclass(frozen=True)
class Parts:
    """The parts of a schedule in the config's order, and the arguments of the plateau that the last may be."""

    parts: tuple[Part, ...]
    clock: Clock
    plateau: dict[str, Any] | None = None

    @property
    def plateau_key(self) -> str:
        """The key of the plateau's arguments."""
        return f"{self.parts[-1].key}.{PLATEAU}"


def is_in_parts(item: Any) -> bool:
    """Whether the config of a hyperparameter is in parts, and not a `_target_` with its arguments."""
    return isinstance(item, list) or (isinstance(item, Mapping) and "_target_" not in item)


def check_no_parts(item: Mapping[str, Any], key: str) -> None:
    """Raise ConfigError where parts were merged into an option that has a `_target_`."""
    mappings = {name: each for name, each in item.items() if isinstance(each, Mapping)}
    parts = [name for name, each in mappings.items() if not {name, *each}.isdisjoint(_SHAPES)]
    if parts:
        raise ConfigError(
            f"{key}: it has parts ({', '.join(parts)}) beside _target_={item['_target_']} of what was "
            "chosen before. Choose schedule=constant, and add the parts to it."
        )


def read_parts(item: Any, key: str, clock: Clock) -> Parts:
    """Read a list of parts, a mapping of names to parts, or one part.

    A part that is null, or has no update (`until: 0`), is left out.

    Raises:
        ConfigError: a part is none, or does not fit its shape, the others or the run.
    """
    named = [(where, part) for where, part in _named(item, key) if part is not None]
    if not named:
        raise ConfigError(f"{key}={item!r}: it has no part. Give one, such as {_FORM}, or null for a constant.")
    read = [_Read.of(part, where) for where, part in named]
    for each in read:
        if each.shape == PLATEAU:
            _check_plateau(each, each is read[-1])
    placed = [(each, span) for each, span in zip(read, _spans(read, clock), strict=True) if _acts(each, span)]
    parts = tuple(Part(each.key, span, _shape(each, span, clock)) for each, span in placed)
    _check_gaps(parts)
    last = read[-1]
    return Parts(parts, clock, dict(last.arguments) if last.shape == PLATEAU else None)


@dataclass(frozen=True)
class _Read:
    """A part as it was written."""

    key: str
    shape: str
    arguments: Mapping[str, Any]
    part: Mapping[str, Any]

    @classmethod
    def of(cls, part: Any, key: str) -> "_Read":
        if not isinstance(part, Mapping):
            raise ConfigError(f"{key}={part!r}: a part is a mapping with one shape, such as {_FORM}.")
        shapes = [name for name in part if name not in _OF_A_PART]
        known = [name for name in shapes if name in _SHAPES]
        for name in shapes:
            if name not in _SHAPES:
                nearest = did_you_mean(name, _OF_A_PART if known else _WORDS)
                raise ConfigError(
                    f"{key}.{name}: a part has one shape, of {', '.join(_SHAPES)}; and {', '.join(_OF_A_PART)}, "
                    f"but no {name!r}.{nearest}"
                )
        if len(known) != 1:
            found = f"{' and '.join(known)} are two shapes" if known else "it has no shape"
            raise ConfigError(f"{key}: {found}. A part has one, of {', '.join(_SHAPES)}; make it a part each.")
        arguments = part[known[0]]
        if arguments is not None and not isinstance(arguments, Mapping):
            raise ConfigError(f"{key}.{known[0]}={arguments!r}: it is a mapping of arguments, such as {_FORM}.")
        return cls(key, known[0], dict(arguments or {}), part)


def _named(item: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the parts with their keys."""
    if isinstance(item, list):
        yield from ((f"{key}[{i}]", part) for i, part in enumerate(item))
    elif any(name in _WORDS or not isinstance(part, Mapping | None) for name, part in item.items()):
        yield key, item
    else:
        yield from ((f"{key}.{name}", part) for name, part in item.items())


def _acts(read: _Read, span: Span) -> bool:
    """Whether a part has updates; a plateau counts without, as in a run that is cut short."""
    return span.end > span.begin or read.shape == PLATEAU


def _shape(read: _Read, span: Span, clock: Clock) -> Shape | None:
    if read.shape == PLATEAU:
        return None
    arguments = Arguments(read.shape, read.arguments, f"{read.key}.{read.shape}", span, clock)
    shape = SHAPES[read.shape](arguments)
    arguments.check_all_known()
    return shape


def _spans(read: list[_Read], clock: Clock) -> list[Span]:
    """Return where each part lies: by default from the end of the one before it to that of the run."""
    spans: list[Span] = []
    end: Updates = 0
    for i, each in enumerate(read):
        unit = _unit(each, clock)
        begin = _place(each, "from", unit, clock)
        if begin is None and i and spans[-1].end == clock.updates and read[i - 1].part.get("until") is None:
            raise ConfigError(
                f"{each.key}: the part before it goes on to the end of the run. Give {read[i - 1].key}.until, or "
                f"{each.key}.from where both act."
            )
        begin = end if begin is None else begin
        end = _end(each, begin, unit, clock)
        spans.append(Span(begin, end, unit, _endpoint(each)))
    return spans


def _end(read: _Read, begin: Updates, unit: Updates, clock: Clock) -> Updates:
    end = _place(read, "until", unit, clock)
    if end is None:
        return clock.updates
    if end < begin:
        raise ConfigError(
            f"{read.key}.until={read.part['until']!r}: that is update {math.ceil(end)}, and the part begins at "
            f"update {math.ceil(begin)}. Give a later one."
        )
    return end


def _unit(read: _Read, clock: Clock) -> Updates:
    per = read.part.get("per")
    if per not in (None, "update", "epoch"):
        raise ConfigError(f"{read.key}.per={per!r}: it is update, or epoch: a value that changes once in each.")
    return clock.unit(per or "update", read.key)


def _endpoint(read: _Read) -> bool:
    given = read.part.get("endpoint")
    if given not in (None, True, False):
        raise ConfigError(f"{read.key}.endpoint={given!r}: it is true, where the last update has the last value.")
    return bool(given)


def _place(read: _Read, name: str, unit: Updates, clock: Clock) -> Updates | None:
    value = read.part.get(name)
    return None if value is None else clock.place(value, f"{read.key}.{name}", unit)


def _check_plateau(read: _Read, is_last: bool) -> None:
    if not is_last:
        raise ConfigError(f"{read.key}: a plateau goes on as its metric says. Make it the last part.")
    for name in ("until", "per", "endpoint"):
        if read.part.get(name) is not None:
            raise ConfigError(f"{read.key}.{name}: a plateau goes on to the end of the run. Leave it out.")


def _check_gaps(parts: Sequence[Part]) -> None:
    end = 0
    for before, part in itertools.pairwise([None, *sorted(parts, key=lambda each: each.first)]):
        if part is not None and part.first > end:
            begins = f"update {end}" if before is None else f"update {end}, where the part before it ends,"
            raise ConfigError(
                f"{part.key}.from: nothing acts from {begins} to {part.first}. Say so by a "
                "part {constant: {}}, or leave `from` out."
            )
        end = max(end, math.ceil(part.span.end)) if part is not None else end
