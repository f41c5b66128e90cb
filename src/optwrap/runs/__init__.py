"""Finished and running runs, read from what they leave: listed, shown, compared, removed, made again."""
