"""Models on several processes: when gradients are averaged, and tensors that are in shards.

Imports nothing else of optim but assignment.
"""
