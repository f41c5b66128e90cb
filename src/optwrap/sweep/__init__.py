"""Sweeps that survive: jobs known by what they compute, a record each, and a report over all of them."""
