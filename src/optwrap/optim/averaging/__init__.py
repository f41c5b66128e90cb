"""Which weights are evaluated: averages of those that training made, or what the optimizer itself keeps for it.

Imports step, parallel and assignment.
"""
