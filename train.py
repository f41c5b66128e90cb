"""Train a model through an optimizer wrapper. `python train.py --help` lists what can be configured."""

from typing import Any

try:
    from optwrap import program, run
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}. Install what the project needs first: pip install -e .") from missing


@program.main(config_name="config")
def main(cfg: Any) -> float:
    """Build what the config names, train, evaluate, record; return the objective, for sweepers."""
    cfg = run.shortened(cfg)
    process = run.set_up(cfg)
    data = run.load_data(cfg, process)
    model = run.build_model(cfg, process)
    run.init_weights(model, cfg)
    model = run.parallelise(model, cfg, process)
    task = run.build_task(cfg, model, process, data)
    optim_wrapper = run.build_optim_wrapper(cfg, model)
    course = run.set_course(cfg, process, data, model, optim_wrapper, task)
    if course.finished is not None:
        return course.finished
    plan, schedule = course.plan, course.schedule
    hooks = run.hooks(cfg, course, data)

    with (
        data,
        program.Interruption(process.ranks.agreement()) as interruption,
        run.record(course) as recorder,
        run.Saver(course, recorder, hooks, cfg.on_nonfinite, interruption) as saver,
        run.debugger(cfg.debug, model, course.folder, recorder.where) as debug_step,
    ):

        def evaluate(split: str, count: int) -> Any:
            with interruption.at_once():
                metrics = run.evaluate(task, data.evaluation(split))
            recorder.evaluation(split, metrics, count)
            return metrics

        def validate(count: int) -> None:
            if data.has("val"):
                hooks.before_evaluation(count)
            with run.evaluation_weights(task, optim_wrapper, data):
                metrics = evaluate("val", count) if data.has("val") else None
                recorder.artifacts(run.write_artifacts(task, course.folder, plan.update_after(count)))
            if metrics is not None:
                schedule.step_on_metrics(metrics)
                saver.keep_if_best(metrics)
                hooks.after_evaluation(metrics, count)

        with interruption.at_once():
            hooks.start(plan.start.micro_batches)
        count = start = saver.begin()
        recorder.pause()
        if hooks.stopping:
            saver.save(start)
        if hooks.stopping or plan.evaluates_after(start):  # a checkpoint is written before its evaluation
            validate(start)
        batches = data.training(plan.data_after(start), plan.data_after(plan.micro_batches))
        for count, batch in enumerate(hooks.until_stopped(batches), start=start + 1):
            hooks.before_update(count)
            stats = run.train_step(task, batch, optim_wrapper)
            saver.step(stats, count)
            hooks.after_update(count)
            recorder.train_step(stats, data.batch_size, count, hooks.columns)  # before the lr moves
            schedule.step()
            debug_step()
            if interruption.requested(plan.ends_update(count)) or hooks.stopping or plan.saves_after(count):
                saver.save(count)
            interruption.check()
            if hooks.stopping or plan.evaluates_after(count):
                validate(count)
        if data.has("test"):
            with run.evaluation_weights(task, optim_wrapper, data):
                evaluate("test", count)
    return recorder.finish(cfg.seed, course.objective, hooks.end(count))


if __name__ == "__main__":
    main()
