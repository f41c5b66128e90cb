"""Which parameters are hidden matrices, for optimizers such as Muon, and how a parameter is cut into matrices."""
