from optwrap.optim import OptimWrapper


class PlainWrapper(OptimWrapper):
    """A wrapper of one's own with the arguments that it knows."""

    def __init__(self, optimizer, accumulative_counts=1, clip_grad=None):
        super().__init__(optimizer, accumulative_counts, clip_grad)
