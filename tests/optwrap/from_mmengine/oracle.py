"""MMEngine's own schedulers, stepped as its runner steps them."""

import pytest

optim = pytest.importorskip("mmengine.optim.scheduler")


class _Quadratic(optim.param_scheduler._ParamScheduler):
    """The n-th step (from 0) adds (2n + 1) / steps ** 2 of the value that the group began with."""

    def __init__(self, optimizer, param_name, begin, end, by_epoch):
        self.steps = end - begin
        super().__init__(optimizer, param_name, begin=begin, end=end, by_epoch=by_epoch)

    @classmethod
    def build_iter_from_epoch(cls, optimizer, param_name, begin, end, by_epoch, epoch_length):
        return cls(optimizer, param_name, begin * epoch_length, end * epoch_length, by_epoch=False)

    def _get_value(self):
        added = (2 * self.last_step + 1) / self.steps**2
        now = [group[self.param_name] if self.last_step else 0.0 for group in self.optimizer.param_groups]
        return [value + base * added for value, base in zip(now, self.base_values, strict=True)]


class _QuadraticMomentum(optim.momentum_scheduler.MomentumSchedulerMixin, _Quadratic):
    def __init__(self, optimizer, **kwargs):
        super().__init__(optimizer, **kwargs)


class _PolyRatio(optim.lr_scheduler.PolyLR):
    """A PolyLR whose floor is a part of the value that each group began with."""

    def __init__(self, optimizer, eta_min_ratio, **kwargs):
        self.ratio = eta_min_ratio
        super().__init__(optimizer, **kwargs)

    def _get_value(self):
        if self.last_step == 0:
            return [group["lr"] for group in self.optimizer.param_groups]
        left = (1 - 1 / (self.total_iters - self.last_step + 1)) ** self.power
        floors = [base * self.ratio for base in self.base_values]
        groups = zip(self.optimizer.param_groups, floors, strict=True)
        return [floor + (group["lr"] - floor) * left for group, floor in groups]


def curves(param_scheduler, by_epoch, length, per_epoch, optimizer, values):
    """Return `values(optimizer)` for each iteration of a run of `length` epochs or iterations."""
    built = [_build(dict(each), by_epoch, length, per_epoch, optimizer) for each in param_scheduler]
    seen = []
    for iteration in range(length * per_epoch if by_epoch else length):
        seen.append(values(optimizer))
        optimizer.step()
        ends_epoch = by_epoch and (iteration + 1) % per_epoch == 0
        for step_of_epochs in (False, True) if ends_epoch else (False,):
            for each in built:
                if each.by_epoch == step_of_epochs:
                    each.step()
    return seen


def _build(cfg, by_epoch, length, per_epoch, optimizer):
    kind = cfg.pop("type").rpartition(".")[2]
    steps_of_epochs = cfg.setdefault("by_epoch", True)
    ends = (length, length * per_epoch) if by_epoch else (1, length)  # the runner's max_epochs and max_iters
    cfg.setdefault("end", ends[0] if steps_of_epochs else ends[1])
    if kind.startswith("QuadraticWarmup"):
        cfg = {"begin": 0, **cfg}
        cls = _Quadratic if kind.endswith("LR") else _QuadraticMomentum
        cfg |= {"param_name": "lr"} if kind.endswith("LR") else {}
    elif kind == "PolyLRRatio":
        cls = _PolyRatio
    elif kind == "CosineAnnealingWeightDecay":
        cls = optim.param_scheduler.CosineAnnealingParamScheduler
        cfg["param_name"] = "weight_decay"
    else:
        modules = (optim.lr_scheduler, optim.momentum_scheduler, optim.param_scheduler)
        cls = next(getattr(module, kind) for module in modules if hasattr(module, kind))
    if cfg.pop("convert_to_iter_based", False):
        return cls.build_iter_from_epoch(optimizer=optimizer, epoch_length=per_epoch, **cfg)
    return cls(optimizer=optimizer, **cfg)
