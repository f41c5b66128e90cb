"""Gradients at other weights than those of the model: sharpness-aware minimisation's two passes.

Imports step, parallel and assignment.
"""
