"""Compare the finished runs in a folder, such as a sweep's.

    python report.py DIR [metrics=val/accuracy,test/loss,seconds] [baseline=lr=0.1,model=small_cnn]

Prints a table (Markdown where the output is no terminal): a row a setting, mean ± standard deviation over seeds
and folds; by how much each differs from the baseline (named, else the row of the config's own values), with the
95 % interval; a * where the best is shown to be better than the next. Writes DIR/results.csv, a row a job, and
DIR/report/: the table as CSV and Markdown, pictures, and index.html with all of it.
"""

from pathlib import Path

try:
    from optwrap import program
    from optwrap.errors import ConfigError
    from optwrap.sweep import report
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}. Install what the project needs first: pip install -e .") from missing


def main(arguments: list[str]) -> None:
    """Print the table and write the files."""
    options = [argument for argument in arguments if argument.startswith(("metrics=", "baseline="))]
    folders = [argument for argument in arguments if argument not in options]
    told = {name: value.split(",") for name, _, value in (option.partition("=") for option in options)}
    if len(folders) != 1 or len(told) < len(options):
        got = " ".join(arguments) or "nothing"
        raise ConfigError(f"report.py takes one folder, and metrics= and baseline= beside it; got {got}.")
    folder = Path(folders[0])
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder.")
    report.make_report(folder, told.get("metrics"), told.get("baseline"))


if __name__ == "__main__":
    program.script(main, __doc__)
