"""What `runs.py` does: a function a command."""

from collections.abc import Callable, Sequence
from pathlib import Path

import rich

from optwrap.errors import ConfigError, did_you_mean
from optwrap.runs import clean, compare, listing, reproduce, watch
from optwrap.runs.read import find_runs, run_in

DIR = "outputs"


def run(arguments: Sequence[str], project: Path) -> None:
    """Run the command that the arguments begin with; `project` is the folder of the project.

    Raises:
        ConfigError: there is no such command, or its arguments do not fit.
    """
    name = arguments[0] if arguments else "list"
    if name not in COMMANDS:
        raise ConfigError(f"{name}: the commands are {', '.join(COMMANDS)}.{did_you_mean(name, COMMANDS)}")
    COMMANDS[name](arguments[1:], project)


def show_list(arguments: Sequence[str], project: Path) -> None:
    """Print a row a run, the newest first, or JSON."""
    root, conditions, own = _split(arguments, {"sort": "age", "json": "false"})
    runs = listing.ordered(listing.chosen(find_runs(root), conditions), own["sort"])
    if own["json"] == "true":
        print(listing.as_json(runs))
        return
    _print_rows(listing.lines(runs, root))
    print(f"{len(runs)} run{'s' * (len(runs) != 1)} in {root}")


def show(arguments: Sequence[str], project: Path) -> None:
    """Print what is known of one run."""
    (folder,) = _folders(arguments, 1, "show RUN")
    it = run_in(folder)
    facts = {"run": str(folder), "status": it.status, "updates": it.progress}
    facts |= {name: str(value) for name, value in it.result.items() if name != "versions"}
    facts |= {f"told {key}": value for key, value in it.overrides.items()}
    for number, start in enumerate(it.starts):
        names = ("time", "command", "commit", "dirty", "host", "device", "threads", "ranks", "data")
        facts |= {f"start {number + 1} {name}": str(start[name]) for name in names if start.get(name) is not None}
    width = max(map(len, facts))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))


def show_differences(arguments: Sequence[str], project: Path) -> None:
    """Print what differs between two runs."""
    first, second = map(run_in, _folders(arguments, 2, "diff RUN RUN"))
    found = compare.differences(first, second)
    for kind, lines in found.items():
        print(f"{kind}:")
        width = max(len(name) for name, _, _ in lines)
        print("\n".join(f"  {name:<{width}}  {one}  |  {other}" for name, one, other in lines))
    if not found:
        print("no difference")


def show_commands(arguments: Sequence[str], project: Path) -> None:
    """Print the commands that make a run again."""
    to = [each.removeprefix("to=") for each in arguments if each.startswith("to=")]
    (folder,) = _folders([each for each in arguments if not each.startswith("to=")], 1, "reproduce RUN")
    place = to[-1] if to else f"../{project.name}_again"
    print("\n".join(reproduce.commands(run_in(folder), project, place)))


def clean_up(arguments: Sequence[str], project: Path) -> None:
    """Say which runs would go, or remove them."""
    root, conditions, own = _split(arguments, {"keep": "", "best": "1", "delete": "false"})
    if not own["best"].isdigit():
        raise ConfigError(f"best={own['best']}: it is a number of runs that stay.")
    keep = [Path(each) for each in own["keep"].split(",") if each]
    for path in keep:
        run_in(path)
    everything = find_runs(root)
    asked = listing.chosen(everything, conditions)
    goes = {
        run.folder: clean.size_of(run.folder)
        for run in clean.removable(everything, keep, int(own["best"]))
        if run in asked
    }
    for folder, size in goes.items():
        print(f"{size / 2**20:8.1f} MiB  {folder}")
    what = f"{len(goes)} runs, {sum(goes.values()) / 2**20:.1f} MiB"
    if own["delete"] != "true":
        print(f"{what} would go, {len(everything) - len(goes)} stay; delete=true removes them")
        return
    busy = clean.remove(goes)
    print(f"{what} removed" + "".join(f"; {folder} stays: a process works in it" for folder in busy))


def follow(arguments: Sequence[str], project: Path) -> None:
    """Show what runs now, until Ctrl-C."""
    root, _, _ = _split(arguments, {})
    watch.watch(root)


def _print_rows(rows: Sequence[dict[str, str]]) -> None:
    """Print a table, tab-separated where the output is no terminal."""
    if not rows:
        return
    if rich.get_console().is_terminal:
        rich.print(listing.to_table(rows))
    else:
        print("\n".join("\t".join(line) for line in [list(rows[0]), *(list(row.values()) for row in rows)]))


def _split(arguments: Sequence[str], own: dict[str, str]) -> tuple[Path, list[str], dict[str, str]]:
    """Return the folder, the conditions and a command's own arguments."""
    values, conditions, folders = dict(own), [], []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in own:
            values[key] = value
        elif any(sign in argument for sign in "=<>"):
            conditions.append(argument)
        else:
            folders.append(Path(argument))
    if len(folders) > 1:
        raise ConfigError(f"{' '.join(map(str, folders))}: give one folder.")
    return folders[0] if folders else Path(DIR), conditions, values


def _folders(arguments: Sequence[str], count: int, usage: str) -> list[Path]:
    if len(arguments) != count or any("=" in each for each in arguments):
        got = " ".join(arguments) or "nothing"
        raise ConfigError(f"python runs.py {usage}: give {count} folder{'s' * (count > 1)}; got {got}.")
    return [Path(each) for each in arguments]


COMMANDS: dict[str, Callable[[Sequence[str], Path], None]] = {
    **{"list": show_list, "show": show, "diff": show_differences, "reproduce": show_commands},
    **{"clean": clean_up, "watch": follow},
}
"""What may be asked for, by name."""
