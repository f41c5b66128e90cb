"""Look over the runs in a folder (outputs, unless DIR says another).

    python runs.py list [DIR] [CONDITION ...] [sort=age|name|status|objective|seconds] [json=true]
    python runs.py show RUN                  how it stands, what it was told, where it comes from
    python runs.py diff RUN RUN              what differs: config, code, packages, machine, results
    python runs.py reproduce RUN [to=DIR]    the commands that make it again
    python runs.py clean [DIR] [CONDITION ...] [keep=RUN,...] [best=1] [delete=true]
    python runs.py watch [DIR]               what runs now

A condition is key=value, or with !=, <, >, <=, >=; its key is status, objective, a result (test/accuracy) or what
a run was told (seed, optim_wrapper.optimizer.lr). `clean` says which finished runs would go and how much room that
makes; `delete=true` removes them. The best, the unfinished and those in `keep` stay.
"""

from pathlib import Path

try:
    from optwrap import program
    from optwrap.runs import commands
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}. Install what the project needs first: pip install -e .") from missing


def main(arguments: list[str]) -> None:
    """Run one of the commands."""
    commands.run(arguments, Path(__file__).resolve().parent)


if __name__ == "__main__":
    program.script(main, __doc__)
