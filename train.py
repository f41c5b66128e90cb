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
    from optwrap.run import checkpoint, setup
    from optwrap.run.evaluation import evaluate, find_objective, write_artifacts
    from optwrap.run.loaders import batch_size, batches, make_loaders
    from optwrap.run.plan import make_plan
    from optwrap.run.recorder import FILES, Recorder

    setup.seed_everything(cfg.seed, cfg.deterministic)
    device = setup.find_device(cfg.device)
    loaders = make_loaders(build(cfg.data, "data"), cfg.batch_size, cfg.num_workers, cfg.seed, device)
    model = setup.place(build(cfg.model, "model"), device, cfg.channels_last, cfg.compile)
    task = build(cfg.task, "task", model=model)
    task.metrics.to(device)
    objective = find_objective(cfg.objective, task)

    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    plan = make_plan(
        len(loaders.train),
        optim_wrapper,
        epochs=cfg.epochs,
        max_updates=cfg.max_updates,
        log_every=cfg.log_every,
        eval_every=cfg.eval_every,
    )
    schedule = build_schedule(optim_wrapper, cfg.schedule, plan.micro_batches)
    optim_wrapper.initialize_count_status(model, 0, plan.micro_batches)

    folder = Path(HydraConfig.get().runtime.output_dir)
    logger = {"train_rows": cfg.logger.train_rows, "tensorboard": cfg.logger.tensorboard}
    with Recorder(folder, plan, optim_wrapper, **logger) as recorder:
        training = batches(loaders.train, device, cfg.channels_last, limit=plan.micro_batches)
        for count, batch in enumerate(training, start=1):
            stats = task.train_step(batch, optim_wrapper)
            recorder.train_step(stats, batch_size(batch), count)  # with the lr that the update was made with
            schedule.step()
            if plan.evaluates_after(count):
                metrics = evaluate(task, batches(loaders.val, device, cfg.channels_last))
                recorder.evaluation("val", metrics, count)
                write_artifacts(task, folder, plan.update_after(count))
                schedule.step_on_metric(metrics[objective.name.removeprefix("val/").removeprefix("test/")])
                checkpoint.save_run(folder / FILES["checkpoint"], model, optim_wrapper, schedule, count)
        recorder.evaluation("test", evaluate(task, batches(loaders.test, device, cfg.channels_last)), count)
    return recorder.finish(cfg.seed, objective)


if __name__ == "__main__":
    main()
