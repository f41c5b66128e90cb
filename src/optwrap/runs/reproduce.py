"""The commands that make a run again: the code as it was, the packages, the command."""

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from optwrap.errors import ConfigError
from optwrap.provenance.record import CHANGES, PACKAGES
from optwrap.runs.read import Run


def commands(run: Run, repository: Path, place: str) -> list[str]:
    """Return the lines to type; a comment says what may differ.

    `repository` is where the commit is, `place` the new folder of the code.

    Raises:
        ConfigError: the run does not say where it comes from.
    """
    if not run.starts:
        raise ConfigError(f"{run.folder}: it has no provenance.json, so where it comes from is not known.")
    last, folder = run.start, run.folder.resolve()
    lines = list(_notes(run.starts))
    if commit := last.get("commit"):
        lines.append(f"git -C {shlex.quote(str(repository))} worktree add --detach {shlex.quote(place)} {commit}")
        lines.append(f"cd {shlex.quote(place)}")
        if (folder / CHANGES).is_file():
            lines.append(f"git apply {shlex.quote(str(folder / CHANGES))}")
        if last.get("prefix"):
            lines.append(f"cd {shlex.quote(str(last['prefix']))}")
    lines.append("python -m venv .venv && . .venv/bin/activate")
    lines.append(f"pip install -e . -c {shlex.quote(str(folder / PACKAGES))}")
    lines.append(_training(run, last))
    return lines


def _notes(starts: list[dict[str, Any]]) -> list[str]:
    last = starts[-1]
    notes = [f"# made on {last.get('device')}, Python {last.get('python')}, {last.get('platform')}"]
    if last.get("commit") is None:
        notes.append("# without git: the code is not known but by its hashes in provenance.json")
    elif not last.get("kept"):
        notes.append("# the changes since the commit were too large, and are not kept")
    if left_out := last.get("left_out"):
        notes.append(f"# large files that no commit has are missing: {', '.join(map(str, left_out))}")
    if len({str(start.get("files")) for start in starts}) > 1:
        notes.append(f"# it went on {len(starts) - 1} times, under other code than it began with")
    return notes


def _training(run: Run, last: dict[str, Any]) -> str:
    typed = yaml.safe_load((run.folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")) or []
    words = [str(each) for each in typed if not re.match(r"\+*(resume|hydra\.|sweep\.)", str(each))]
    if last.get("threads") and not any(word.startswith("threads=") for word in words):
        words.append(f"threads={last['threads']}")
    environment = dict(last.get("environment") or {})
    environment.pop("OMP_NUM_THREADS", None)  # `threads` says it
    before = [f"{name}={shlex.quote(str(value))}" for name, value in environment.items()]
    return " ".join([*before, "python", "train.py", shlex.join(words)]).rstrip()
