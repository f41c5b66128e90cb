"""A run as numbers: its length, the order of its samples, its random state, its ranks, what it is judged by.

Imports optim and what lies below.
"""
