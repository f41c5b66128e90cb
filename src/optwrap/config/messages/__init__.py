"""What a user reads when a config is wrong: Hydra's and OmegaConf's errors, explained.

Imports config.
"""
