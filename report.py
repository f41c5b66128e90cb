"""Compare the finished runs in a folder, such as a sweep's.

    python report.py DIR [metrics=val/accuracy,test/loss,seconds]

Prints a table (Markdown where the output is no terminal): a row a setting, mean ± standard deviation over seeds,
the best one marked. Writes DIR/results.csv, a row a job, and DIR/report/: the table as CSV and Markdown, pictures,
and index.html with all of it.
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
    folders = [argument for argument in arguments if not argument.startswith("metrics=")]
    chosen = [argument.removeprefix("metrics=") for argument in arguments if argument not in folders]
    if len(folders) != 1 or len(chosen) > 1:
        got = " ".join(arguments) or "nothing"
        raise ConfigError(f"report.py takes one folder, and metrics= beside it; got {got}.")
    folder = Path(folders[0])
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder.")
    report.make_report(folder, chosen[0].split(",") if chosen else None)


if __name__ == "__main__":
    program.script(main, __doc__)
