"""Which frames of a traceback are the frameworks', which are the user's."""

import importlib.util
import traceback
from collections.abc import Iterator
from pathlib import Path

_OPTWRAP = Path(__file__).parents[1]


def _framework_folders() -> tuple[str, ...]:
    specs = [importlib.util.find_spec(name) for name in ("hydra", "omegaconf", "antlr4", "importlib")]
    return tuple(f"{folder}/" for spec in specs if spec for folder in spec.submodule_search_locations or ())


_FRAMEWORK = ("<frozen importlib", *_framework_folders())


def is_framework_file(filename: str) -> bool:
    """Tell whether a frame's file belongs to Hydra, OmegaConf or the import machinery."""
    return filename.startswith(_FRAMEWORK)


def framework_raised(error: BaseException) -> bool:
    """Tell whether Hydra or OmegaConf itself raised, not code that they call."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and is_framework_file(frames[-1].filename)


def while_composing(error: BaseException) -> bool:
    """Tell whether Hydra was still at work on the config: no job had begun."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = any(is_framework_file(frame.filename) and "/hydra/" in frame.filename for frame in frames)
    return inside and not any(frame.name in ("run_job", "_run_job") for frame in frames)


def library_raised(error: BaseException) -> bool:
    """Tell whether an installed library raised, neither the project's code nor optwrap."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    file = Path(frames[-1].filename)
    return bool({"site-packages", "dist-packages"} & set(file.parts)) and not file.is_relative_to(_OPTWRAP)


def raised_by_optimizer(error: BaseException) -> bool:
    """Tell whether an optimizer of torch refused what it was given: a kind of gradient, of parameter."""
    frames = traceback.extract_tb(error.__traceback__)
    folder = Path(frames[-1].filename).parts[-3:-1] if frames else ()
    return isinstance(error, RuntimeError | ValueError | TypeError) and folder == ("torch", "optim")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what it was raised from (`raise ... from ...`), outermost first."""
    while error is not None:
        yield error
        error = error.__cause__


def short_traceback(error: BaseException, hidden: str = "") -> str:
    """Format a traceback without the frameworks' frames and those of the file `hidden`."""
    report = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = report
    while link is not None:
        own = [frame for frame in link.stack if not is_framework_file(frame.filename)]
        link.stack[:] = [frame for frame in own if frame.filename != hidden] or list(link.stack)
        link = link.__cause__ or link.__context__
    return "".join(report.format()).rstrip()
