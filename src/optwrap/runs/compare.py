"""Two runs side by side: what differs in config, code, packages and results."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from optwrap.config.parser_errors import PARSER_ERRORS, load_bounded
from optwrap.provenance.record import PACKAGES, files_of
from optwrap.runs.read import Run

Difference = tuple[str, str, str]
"""What differs, and what it is in the one and in the other run."""


def differences(first: Run, second: Run) -> dict[str, list[Difference]]:
    """Return what differs, by kind: config, code, packages, machine, results; kinds without a difference left out.

    Times and memory are no results.
    """
    kinds = {
        "config": (_config(first), _config(second)),
        "code": (_code(first), _code(second)),
        "packages": (_packages(first.folder), _packages(second.folder)),
        "machine": (_machine(first), _machine(second)),
        "results": (_results(first), _results(second)),
    }
    found = {kind: list(_differing(*pair)) for kind, pair in kinds.items()}
    return {kind: lines for kind, lines in found.items() if lines}


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    for key in dict.fromkeys([*first, *second]):
        one, other = (str(each[key]) if key in each else "-" for each in (first, second))
        if one != other:
            yield key, one, other


def _config(run: Run) -> dict[str, Any]:
    try:
        content: Any = OmegaConf.to_container(load_bounded(run.folder / ".hydra" / "config.yaml"), resolve=False)
    except PARSER_ERRORS:
        return {}
    return dict(_flat(content, ""))


def _flat(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node


def _code(run: Run) -> dict[str, Any]:
    if not run.start:
        return {}
    changes = " with changes" * bool(run.start.get("dirty"))
    return {"commit": f"{str(run.start.get('commit'))[:10]}{changes}"} | files_of(run.start)


def _packages(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / PACKAGES).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.removeprefix("# ").partition("==") for line in lines)
    return {name: version for name, _, version in pairs}


def _machine(run: Run) -> dict[str, Any]:
    names = ("python", "platform", "host", "device", "cuda", "driver", "threads", "ranks", "data")
    return {name: run.start[name] for name in names if name in run.start}


def _results(run: Run) -> dict[str, Any]:
    without = ("versions", "device", "seconds", "peak_memory_mib")
    return {"status": run.status} | {name: value for name, value in run.result.items() if name not in without}
