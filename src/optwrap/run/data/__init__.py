"""Data of a run, whatever its shape: splits, samples made into batches, streams."""
