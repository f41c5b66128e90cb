"""The optimizer step: clip, unscale and step in as few passes over memory as are right.

Imports parallel.
"""
