"""The layers of a model: what it says of them itself, and what its modules tell."""
