"""From configs of MMEngine, read without it, to experiments: `python -m optwrap.from_mmengine`."""
