"""What is saved of a run, and how it comes back: files, shards, and the state of every part.

Imports program, record, plan, optim and what lies below.
"""
