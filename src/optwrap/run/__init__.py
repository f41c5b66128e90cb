"""What the loop in `train.py` calls: the run's course, data, strategy, saving and evaluation.

The top floor: it imports everything below it, and programs alone import it.
"""
