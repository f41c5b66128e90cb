"""Scheduler lists of long runs as those of short ones, of the same course."""

EPOCHS, UPDATES_PER_EPOCH = 12, 10
_UPDATES = EPOCHS * UPDATES_PER_EPOCH
_LENGTHS = ("begin", "end", "T_max", "step_size")
_LISTS = ("milestones", "periods")


def shortened(case):
    """Return the case with its run cut to 12 epochs of 10 updates, and all of its places and lengths with it."""
    run = EPOCHS if case["by_epoch"] else _UPDATES
    factors = {case["by_epoch"]: run / case["length"]}
    updates = [each["end"] for each in case["param_scheduler"] if not each.get("by_epoch", True) and "end" in each]
    if case["by_epoch"]:  # how many updates its epochs have, nobody says
        factors[False] = min(1.0, 35 / max(updates, default=35))
    schedulers = [_scheduler(each, factors[each.get("by_epoch", True)]) for each in case["param_scheduler"]]
    return {"param_scheduler": schedulers, "by_epoch": case["by_epoch"], "length": run}


def _scheduler(scheduler, factor):
    def scaled(number):
        return max(int(number * factor), 1) if number else 0

    short = dict(scheduler)
    short |= {name: scaled(scheduler[name]) for name in _LENGTHS if name in scheduler}
    short |= {name: [scaled(each) for each in scheduler[name]] for name in _LISTS if name in scheduler}
    if "T_max" in scheduler and scheduler["T_max"] == scheduler.get("end", 0) - scheduler.get("begin", 0):
        short["T_max"] = short["end"] - short["begin"]  # as it is, whatever rounding says
    return short
