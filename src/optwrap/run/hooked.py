"""The hooks of a run: built from its config, given its parts, and put where they stood."""

from omegaconf import DictConfig

from optwrap.checkpoint.resume import same_hooks
from optwrap.errors import ConfigError
from optwrap.hooks.given import Run
from optwrap.hooks.hooks import Hooks, build_hooks
from optwrap.hooks.stopping import Stopping
from optwrap.run.course import Course
from optwrap.run.loaders import Loaders


def hooks(cfg: DictConfig, course: Course, data: Loaders) -> Hooks:
    """Build `cfg.hooks`; where the run goes on, give each the state that it had.

    Raises:
        ConfigError: as `build_hooks` and `Hooks.load_state_dict`.
    """
    parts, plan = course.parts, course.plan
    given = Run(
        key="",
        model=parts.model,
        optim_wrapper=parts.optim_wrapper,
        task=parts.task,
        plan=plan,
        objective=course.objective,
        folder=course.folder,
        device=course.process.device,
        batches=lambda first, last: data.training(plan.data_after(first), plan.data_after(last)),
        batch_size=cfg.batch_size,
        has_val=data.has("val"),
        stopping=Stopping(course.process.ranks),
        ranks=course.process.ranks,
        count=plan.start.micro_batches,
    )
    built = Hooks(build_hooks(cfg.hooks), given)
    if course.saved is not None and "hooks" in course.saved.state:
        unchanged = same_hooks(course.saved, course.config["hooks"])
        try:
            built.load_state_dict(course.saved.state["hooks"], unchanged)
        except ConfigError:
            raise
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ConfigError(f"{course.saved.path}: what it has of hooks cannot be read: {error!r}.") from error
    return built
