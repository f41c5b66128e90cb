"""Compare the finished runs in a folder, such as a sweep's.

    python report.py DIR [metrics=val/accuracy,test/loss,seconds]

Prints a table (Markdown where the output is no terminal): a row a setting, mean ± standard deviation over seeds,
the best one marked. Writes DIR/results.csv, a row a job, and DIR/report/: the table as CSV and Markdown, pictures,
and index.html with all of it.
"""

import optwrap.ctrl_c  # noqa: F401, I001 -- before all that takes long to load
from pathlib import Path

from optwrap.errors import ConfigError
from optwrap.checkpoint.saved import run_program


def main(arguments: list[str]) -> None:
    """Print the table and write the files."""
    from optwrap.sweep.report.results import read_jobs, write_results_csv
    from optwrap.sweep.report.settings import default_metrics
    from optwrap.sweep.report.write import show_table, write_report

    folders = [argument for argument in arguments if not argument.startswith("metrics=")]
    chosen = [argument.removeprefix("metrics=") for argument in arguments if argument not in folders]
    if len(folders) != 1 or len(chosen) > 1:
        got = " ".join(arguments) or "nothing"
        raise ConfigError(f"report.py takes one folder, and metrics= beside it; got {got}.")
    folder = Path(folders[0])
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder.")
    jobs = read_jobs(folder)
    files = [write_results_csv(folder)]
    metrics = chosen[0].split(",") if chosen else default_metrics(jobs)
    show_table(jobs, metrics)
    files += write_report(folder, jobs, metrics)
    print("\n".join(str(file) for file in files))


if __name__ == "__main__":
    run_program(main, __doc__)
