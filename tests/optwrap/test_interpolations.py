from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, OmegaConf

from optwrap.config.train_schema import LogLevel
from optwrap.interpolations import settled


@dataclass
class Typed:
    level: LogLevel = LogLevel.INFO
    width: int = 1
    rest: Any = MISSING


def test_what_the_process_says_is_written_as_a_value_and_what_keys_say_stays(monkeypatch):
    monkeypatch.setenv("LEVEL", "DEBUG")
    cfg = OmegaConf.structured(Typed)
    cfg.level, cfg.width = "${oc.env:LEVEL}", "${oc.decode:'8'}"
    cfg.rest = {"a.b": ["${oc.env:LEVEL}/${width}", "${width}"], "c": "${no.such:x}", "d": "${oc.env:NOBODY}"}
    cfg.rest.e = "${oc.create:{x:1}}"
    assert settled(cfg) == {
        "level": "DEBUG",
        "width": 8,
        "rest": {
            "a.b": ["DEBUG/8", "${width}"],
            "c": "${no.such:x}",
            "d": "${oc.env:NOBODY}",
            "e": {"x": 1},
        },
    }


def test_a_value_that_is_missing_stays_missing():
    assert settled(OmegaConf.structured(Typed)) == {"level": "INFO", "width": 1, "rest": "???"}
