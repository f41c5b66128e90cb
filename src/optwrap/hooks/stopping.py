"""The end of a run before its plan's, on which all ranks agree."""

from collections.abc import Mapping
from typing import Any

from optwrap.plan.ranks import ALONE, Ranks


class Stopping:
    """Who has asked the run to stop, and `reason`: what all ranks have agreed on, None where they go on.

    >>> stopping = Stopping()
    >>> stopping.ask("the loss is low")
    >>> stopping.reason
    >>> stopping.agree()
    >>> stopping.reason
    'the loss is low'
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.reason: str | None = None
        self._ranks = ranks
        self._asked: str | None = None
        self._any_asked = ranks.agreement()

    def ask(self, reason: str) -> None:
        """Ask that the run stop; the first who asks is believed."""
        self._asked = self._asked or reason

    def agree(self) -> None:
        """Learn what any rank has asked; each waits for the others."""
        asked = self._ranks.all_of({} if self._asked is None else {self._asked: self._ranks.rank})
        self.reason = self.reason or min(asked, key=asked.__getitem__, default=None)

    def agree_later(self) -> None:
        """Learn what any rank had asked by the last call, without waiting; alone, at once."""
        if self._any_asked is None or self._any_asked(self._asked is not None):
            self.agree()

    def state_dict(self) -> dict[str, Any]:
        """Return what was asked and agreed on so far; each rank calls it."""
        asked = self._ranks.all_of({} if self._asked is None else {self._asked: self._ranks.rank})
        return {"asked": min(asked, key=asked.__getitem__, default=None), "reason": self.reason}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state_dict` returned, beside what has been asked since."""
        self._asked, self.reason = self._asked or state["asked"], self.reason or state["reason"]
        if self._any_asked is not None:
            self._any_asked(self._asked is not None)  # what was said at the last update is heard at the next
