"""Train a model through an optimizer wrapper. `python train.py --help` lists what can be configured."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from optwrap.run import app


@app.main(config_name="config")
def main(cfg: DictConfig) -> float:
    """Build what the config names, train, evaluate, record; return the objective, for sweepers."""
    # Imported here: tab completion and --help answer without loading torch.
    from optwrap.instantiate import build
    from optwrap.optim import build_optim_wrapper, build_schedule
    from optwrap.run import debugging, setup
    from optwrap.run.evaluation import evaluate, write_artifacts
    from optwrap.run.folder import save_config
    from optwrap.run.interruption import Interruption
    from optwrap.run.loaders import batch_size, batches, make_loaders
    from optwrap.run.objective import Objective
    from optwrap.run.plan import accumulative_counts, make_plan
    from optwrap.run.recorder import Recorder, run_checkpoints
    from optwrap.run.resume import find_saved, finished_value, plain_config, restore, start_of
    from optwrap.run.saver import Saver
    from optwrap.run.state import RunParts

    cfg = debugging.shortened(cfg)
    setup.seed_everything(cfg.seed, cfg.deterministic)
    device = setup.find_device(cfg.device)
    data = debugging.fewer_samples(build(cfg.data, "data"), cfg.debug, cfg.batch_size)
    loaders = make_loaders(data, cfg.batch_size, cfg.num_workers, cfg.seed, device)
    model = setup.place(build(cfg.model, "model"), device, cfg.channels_last, cfg.compile)
    task = build(cfg.task, "task", model=model)
    task.metrics.to(device)
    objective = Objective(cfg.objective, task, cfg.checkpoint.best)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)

    folder = Path(HydraConfig.get().runtime.output_dir)
    checkpoints = run_checkpoints(folder, cfg.checkpoint.keep)
    saved = find_saved(cfg.resume, checkpoints, device)
    plan = make_plan(
        loaders.per_epoch,
        optim_wrapper,
        epochs=cfg.epochs,
        max_updates=cfg.max_updates,
        log_every=cfg.log_every,
        eval_every=cfg.eval_every,
        checkpoint_every=cfg.checkpoint.every,
        start=start_of(saved, loaders.order, accumulative_counts(optim_wrapper)),
    )
    if (value := finished_value(folder, saved, plan, cfg.objective)) is not None:
        return value
    schedule = build_schedule(optim_wrapper, cfg.schedule, plan.micro_batches)
    optim_wrapper.initialize_count_status(model, 0, plan.micro_batches)
    parts, config = RunParts(model, optim_wrapper, schedule, task), plain_config(cfg)
    records = None if saved is None else saved.state["recorder"]
    if saved is not None:
        restore(parts, saved, plan, config)
        save_config(folder, cfg)

    with (
        Interruption() as interruption,
        Recorder(folder, plan, optim_wrapper, **cfg.logger, resumed=records) as recorder,
        debugging.debugging(cfg.debug, model, folder, recorder.where) as debug_step,
    ):
        saver = Saver(checkpoints, parts, plan, config, recorder, objective, cfg.on_nonfinite, device)

        def validate(count: int) -> None:
            with interruption.at_once():
                metrics = evaluate(task, batches(loaders.val, device, cfg.channels_last))
            recorder.evaluation("val", metrics, count)
            write_artifacts(task, folder, plan.update_after(count))
            schedule.step_on_metric(metrics[objective.metric])
            saver.keep_if_best(metrics)

        start = saver.begin(saved)
        if plan.evaluates_after(start):  # a checkpoint is written before its evaluation
            validate(start)
        training = loaders.training(plan.data_after(start), plan.data_after(plan.micro_batches))
        for count, batch in enumerate(batches(training, device, cfg.channels_last), start=start + 1):
            stats = task.train_step(batch, optim_wrapper)
            saver.watch.step(stats, count)
            recorder.train_step(stats, batch_size(batch), count)  # with the lr that the update was made with
            schedule.step()
            debug_step()
            if plan.saves_after(count) or interruption.requested:
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
