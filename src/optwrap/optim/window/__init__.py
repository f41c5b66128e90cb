"""One accumulation window: which micro-batches make an update, and what divides their gradients.

Imports step and parallel.
"""
