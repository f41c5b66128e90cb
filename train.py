"""Train a model through an optimizer wrapper. `python train.py --help` lists what can be configured."""

import optwrap.ctrl_c  # noqa: F401, I001 -- before all that takes long to load
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from optwrap.program import app


@app.main(config_name="config")
def main(cfg: DictConfig) -> float:
    """Build what the config names, train, evaluate, record; return the objective, for sweepers."""
    # Imported here: tab completion and --help answer without loading torch.
    from optwrap.instantiate import build
    from optwrap.optim import build_optim_wrapper
    from optwrap.plan.objective import Objective
    from optwrap.plan.ranks import Ranks
    from optwrap.program.interruption import Interruption
    from optwrap.record.follower import record
    from optwrap.run import debugging, setup
    from optwrap.run.course import set_course
    from optwrap.run.evaluation import evaluate, write_artifacts
    from optwrap.run.loaders import batch_size, batches, make_loaders
    from optwrap.run.saver import Saver
    from optwrap.run.strategy import parallelise

    cfg = debugging.shortened(cfg)
    setup.seed_everything(cfg.seed, cfg.deterministic)
    ranks = Ranks.current()
    device = setup.find_device(cfg.device, ranks)
    data = debugging.fewer_samples(build(cfg.data, "data"), cfg.debug, cfg.batch_size)
    loaders = make_loaders(data, cfg.batch_size, cfg.num_workers, cfg.seed, device, ranks)
    model = setup.place(build(cfg.model, "model"), device, cfg.channels_last, cfg.compile)
    model = parallelise(model, cfg, device, ranks)
    task = build(cfg.task, "task", model=model)
    task.metrics.to(device)
    objective = Objective(cfg.objective, task, cfg.checkpoint.best)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    setup.seed_rank(cfg.seed, ranks)

    folder = Path(HydraConfig.get().runtime.output_dir)
    course = set_course(cfg, folder, loaders.order, model, optim_wrapper, task, device, ranks)
    if course.finished is not None:
        return course.finished
    plan, schedule = course.plan, course.parts.schedule

    with (
        Interruption(ranks.agreement()) as interruption,
        record(folder, plan, optim_wrapper, cfg.logger, course.records, ranks) as recorder,
        Saver(course, recorder, objective, cfg.on_nonfinite) as saver,
        debugging.debugging(cfg.debug, model, folder, recorder.where) as debug_step,
    ):

        def validate(count: int) -> None:
            with interruption.at_once():
                metrics = evaluate(task, batches(loaders.val, device, cfg.channels_last))
            recorder.evaluation("val", metrics, count)
            write_artifacts(task, folder, plan.update_after(count))
            schedule.step_on_metric(metrics[objective.metric])
            saver.keep_if_best(metrics)

        start = saver.begin()
        if plan.evaluates_after(start):  # a checkpoint is written before its evaluation
            validate(start)
        training = loaders.training(plan.data_after(start), plan.data_after(plan.micro_batches))
        for count, batch in enumerate(batches(training, device, cfg.channels_last), start=start + 1):
            stats = task.train_step(batch, optim_wrapper)
            saver.step(stats, count)
            recorder.train_step(stats, batch_size(batch), count)  # with the lr that the update was made with
            schedule.step()
            debug_step()
            if interruption.requested(plan.ends_update(count)) or plan.saves_after(count):
                saver.save(count)
            interruption.check()
            if plan.evaluates_after(count):
                validate(count)
        with interruption.at_once():
            metrics = evaluate(task, batches(loaders.test, device, cfg.channels_last))
        recorder.evaluation("test", metrics, plan.micro_batches)
    return recorder.finish(cfg.seed, objective)


if __name__ == "__main__":
    main()
