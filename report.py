"""Compare the finished runs in a folder, such as a sweep's.

python report.py run=outputs/multirun/2026-01-31/12-00-00 [metrics=test/accuracy,test/loss,seconds]

Prints a table (Markdown where the output is no terminal): a row a setting, mean ± standard deviation over seeds.
"""

from pathlib import Path

import rich
from rich.table import Table

from optwrap.errors import ConfigError
from optwrap.run.report import compare, read_runs, to_markdown
from optwrap.run.saved import run_program, split_arguments


def main(arguments: list[str]) -> None:
    """Print the table."""
    own, rest = split_arguments(arguments, {"run": None, "metrics": "test/accuracy,test/loss,seconds"})
    if rest:
        raise ConfigError(f"{rest[0]}: report.py takes run= and metrics= only.")
    rows = compare(read_runs(Path(own["run"])), own["metrics"].split(","))
    if not rich.get_console().is_terminal:
        print(to_markdown(rows))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    rich.print(table)


if __name__ == "__main__":
    run_program(main, __doc__)
