"""Where a run comes from: the code, packages, machine and command that made it, and how to make it again."""
