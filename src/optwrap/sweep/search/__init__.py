"""A search with Optuna in place of a grid: what may vary, the trials so far, and what asks for the next ones.

Imports the jobs' records and what lies below.
"""
