"""Turn a config of MMEngine into an experiment of this template.

    python -m optwrap.from_mmengine CONFIG [--out experiments/NAME.yaml]

CONFIG is a file .py, .yaml or .json, with its bases. Its optimizer wrapper, schedules, length, scaled lr and
averages become an experiment, on standard output or in a new file; data, model and task are chosen beside it:

    python train.py experiment=NAME model=resnet50 data=fake

What cannot be carried over is listed with the line that does it by hand, as comments in the YAML and on the
terminal. A Python config is code: it is run, as MMEngine runs it. Take none from people whom you would not let run
programs. MMEngine itself is not needed, nor imported, unless the config calls something of it.
"""

import sys
from pathlib import Path

from optwrap import files, program
from optwrap.errors import ConfigError
from optwrap.from_mmengine.experiment import experiment_of
from optwrap.from_mmengine.reading.config import read_config

_USAGE = "Usage: python -m optwrap.from_mmengine CONFIG [--out experiments/NAME.yaml]"


def main(arguments: list[str]) -> None:
    """Translate one config.

    Raises:
        ConfigError: the arguments do not fit, the config cannot be read, or the file to write is there already.
    """
    source, out = _parsed(arguments)
    text, left, notes = experiment_of(read_config(source), source)
    if out is None:
        print(text, end="")
    else:
        files.write_text(out, text)
        print(f"Wrote {out}.", file=sys.stderr)
    for title, lines in (("To be done by hand:", left), ("To be known:", notes)):
        if lines:
            print(title, *(f"- {line}" for line in lines), sep="\n", file=sys.stderr)


def _parsed(arguments: list[str]) -> tuple[Path, Path | None]:
    """Return the config, and the file to write."""
    rest, out = list(arguments), None
    for place, argument in enumerate(arguments):
        if argument == "--out":
            if place + 1 == len(arguments):
                raise ConfigError(f"--out: which file? {_USAGE}")
            out = Path(arguments[place + 1])
            del rest[place : place + 2]
        elif argument.startswith("--out="):
            out = Path(argument.removeprefix("--out="))
            rest.remove(argument)
    if unknown := [each for each in rest if each.startswith("-")]:
        raise ConfigError(f"{unknown[0]}: there is no such option. {_USAGE}")
    if len(rest) != 1:
        raise ConfigError(f"{' '.join(rest) or 'No config'}: one config is translated at a time. {_USAGE}")
    if out is not None and out.exists():
        raise ConfigError(f"--out {out}: there is such a file already. Remove it, or take another name.")
    if out is not None and (out.suffix != ".yaml" or not out.parent.is_dir()):
        raise ConfigError(f"--out {out}: an experiment is a file .yaml in a folder that is there, as experiments.")
    return Path(rest[0]), out


if __name__ == "__main__":
    program.script(main, __doc__)
