"""The hooks of a run as the loop calls them: each call is an empty loop where no hook wants it."""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from optwrap.errors import ConfigError
from optwrap.hooks.given import Run
from optwrap.hooks.hook import METHODS, check_hook, switched_on
from optwrap.instantiate import build
from optwrap.optim import OptimWrapper
from optwrap.optim.wrapper_dict import named_wrappers

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch")
_MISFITS = (LookupError, ValueError, TypeError, AttributeError, RuntimeError)


def build_hooks(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Build the hooks of the config, by name.

    Raises:
        ConfigError: one cannot be built, or is no hook (`check_hook`).
    """
    hooks = {name: build(node, f"hooks.{name}") for name, node in switched_on(nodes).items()}
    for name, hook in hooks.items():
        check_hook(hook, f"hooks.{name}")
    return hooks


class Hooks:
    """Calls hooks, in the order of the config. `run` is what each is given, under its own name.

    `columns` is what they have recorded for the training row to come.
    """

    def __init__(self, hooks: Mapping[str, Any], run: Run) -> None:
        self._any = bool(hooks)
        self._calls: dict[str, list[tuple[Run, Callable[..., Any]]]] = {method: [] for method in METHODS}
        for name, hook in hooks.items():
            own = replace(run, key=name)
            for method in METHODS:
                if hasattr(hook, method):
                    self._calls[method].append((own, getattr(hook, method)))
        self._follows_updates = bool(self._calls["before_update"] or self._calls["after_update"])
        self._plan, self._count, self._stopping = run.plan, run.count, run.stopping
        self._wrappers = list(named_wrappers(run.optim_wrapper).values())
        self._first = True
        self._saved_stopping: Mapping[str, Any] | None = None
        self._updates = 0
        self.columns, self._results = run.notes.columns, run.notes.results

    @property
    def stopping(self) -> bool:
        """Whether the run ends here, because a hook has asked for it."""
        # Of several ranks, inside an update each has gradients of its own, which no checkpoint holds.
        here = not self._plan.between_updates or self._plan.ends_update(self._count)
        return self._stopping.reason is not None and here

    def until_stopped(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches for as long as no hook stops the run; a generator is closed then."""
        remaining = iter(batches)
        while not self.stopping:
            try:
                yield next(remaining)
            except StopIteration:
                return
        if isinstance(batches, Generator):
            batches.close()

    def start(self, count: int) -> None:
        """Begin after `count` micro-batches."""
        self._call("start", count)
        if self._any:
            self._stopping.agree()
        if self._saved_stopping is not None:
            self._stopping.load_state_dict(self._saved_stopping)
        self._updates = self._steps_made()

    def before_update(self, count: int) -> None:
        """Call it before micro-batch `count`: hooks are told where an update begins, or is gone on with."""
        if self._calls["before_update"] and (self._first or self._plan.ends_update(count - 1)):
            self._call("before_update", count - 1)
        self._first = False

    def after_update(self, count: int) -> None:
        """Call it after micro-batch `count`: hooks are told where that has ended an update."""
        self._count = count
        if not self._follows_updates or not self._plan.ends_update(count):
            return
        made, self._updates = self._updates, self._steps_made()
        if self._updates != made or any(map(_learns_later, self._wrappers)):
            self._call("after_update", count)
        self._stopping.agree_later()

    def before_evaluation(self, count: int) -> None:
        """Call it before an evaluation on val."""
        self._call("before_evaluation", count)

    def after_evaluation(self, metrics: Mapping[str, float], count: int) -> None:
        """Call it after an evaluation on val."""
        self._call("after_evaluation", count, metrics)
        if self._calls["after_evaluation"] or self._calls["before_evaluation"]:
            self._stopping.agree()

    def end(self, count: int) -> dict[str, Any]:
        """Call it at the end of the run; return what it adds to the result."""
        self._call("end", count)
        reason = self._stopping.reason
        if reason is not None:
            update = self._plan.update_after(count)
            logger.info("Stopped after update %d of %d by %s.", update, self._plan.updates, reason)
        return self._results | ({} if reason is None else {"stopped": reason})

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the hooks; of several ranks all call it."""
        return {
            "hooks": {run.key: state_dict() for run, state_dict in self._calls["state_dict"]},
            "stopping": self._stopping.state_dict(),
            "columns": dict(self.columns),
            "results": dict(self._results),
        }

    def load_state_dict(self, state: Mapping[str, Any], unchanged: bool) -> None:
        """Go on with what `state_dict` returned.

        A stop that was asked for counts where the config of the hooks is `unchanged`.

        Raises:
            ConfigError: a hook cannot load its state.
        """
        saved = dict(state["hooks"])
        for run, load in self._calls["load_state_dict"]:
            if run.key not in saved:
                logger.info("hooks.%s is new since that checkpoint: it starts anew.", run.key)
                continue
            try:
                load(saved.pop(run.key))
            except _MISFITS as error:
                raise ConfigError(
                    f"hooks.{run.key}: it cannot go on from what the checkpoint has of it ({error!r}). Under "
                    "another name it starts anew."
                ) from error
        for name in saved:
            logger.info("The checkpoint has the state of hooks.%s, which this run has not.", name)
        self.columns.update(state["columns"])
        self._results.update(state["results"])
        asked = {name: state["stopping"][name] for name in ("asked", "reason")}
        self._saved_stopping = asked if unchanged else None

    def _call(self, method: str, count: int, *arguments: Any) -> None:
        self._count = count
        for run, call in self._calls[method]:
            run.count = count
            call(run, *arguments)

    def _steps_made(self) -> int:
        return sum(wrapper.updates_so_far for wrapper in self._wrappers)


def _learns_later(wrapper: OptimWrapper) -> bool:
    """Whether the device decides on skipped steps: asking would wait for it in each update."""
    scales = getattr(wrapper, "loss_scaler", None) is not None
    return scales and wrapper.param_groups[0]["params"][0].device.type == "cuda"
