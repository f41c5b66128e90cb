"""Dataclasses of the configuration: the top-level keys of `train.py` and what stands below them.

The string under a field is its help: the first sentence of each `TrainConfig` field is shown by `--help`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from optwrap.config.schemas import open_mapping


class Better(StrEnum):
    """Which way a metric is better."""

    min = "min"
    max = "max"


@dataclass
class CheckpointConfig:
    """When a run saves itself, beside the end of each epoch and each evaluation, and what it keeps."""

    every: int | None = None
    """Updates between checkpoints; null: only at the end of epochs and before evaluations."""
    keep: int = 2
    """How many of the last checkpoints stay, besides the best."""
    sharded: bool = False
    """Each rank writes its part of the tensors into a folder beside the file: nothing is gathered."""
    asynchronous: bool | None = None
    """Write in the background, from a copy in the host's memory; null: what is one file, and no shards."""
    best: Better | None = None
    """Which way `objective` is better, min or max; null: what the metric says, and min for a loss."""


@dataclass
class DebugConfig:
    """Switches that help to find a fault; all off."""

    fast_dev_run: bool = False
    """Two batches of each data set through every code path: train, log, evaluate, save, test."""
    overfit_batches: int | None = None
    """Train and evaluate on the first so many batches of the training set alone."""
    detect_anomaly: bool = False
    """Autograd's anomaly mode: the traceback of a NaN shows the forward operation that made it."""
    find_nonfinite: bool = False
    """Stop at the first module whose output, or parameter whose gradient, is NaN or inf, and name it; slow."""
    profile: int | None = None
    """Micro-batches to profile, after two of warm-up, into trace.json (Chrome's format)."""


class OnStale(StrEnum):
    """What a repeated sweep does with finished jobs that other code made."""

    warn = "warn"
    rerun = "rerun"
    error = "error"


@dataclass
class SweepConfig:
    """How a sweep deals with its jobs."""

    stale: OnStale = OnStale.warn
    """Finished jobs that other code made: warn of them, rerun them, or stop with an error."""


class StrategyName(StrEnum):
    """How the model is spread over the processes of a run."""

    auto = "auto"
    single = "single"
    ddp = "ddp"
    fsdp2 = "fsdp2"


@dataclass
class StrategyConfig:
    """How the model is spread over the processes that torchrun, or `nproc`, starts."""

    name: StrategyName = StrategyName.auto
    """single, ddp (replicas) or fsdp2 (shards); auto: ddp where there are several processes."""
    modules: list[str] | None = None
    """Submodules that the task calls, each spread by itself; null: those with own wrappers, else the model."""
    sync_batch_norm: bool = False
    """Batch norm over the samples of all ranks; on CUDA."""
    find_unused_parameters: bool = False
    """ddp: parameters may take no part in a loss; costs a walk through the graph in each update."""
    replicas: int = 1
    """fsdp2: groups of ranks that each hold the whole model in shards (hybrid sharding)."""
    reshard_after_forward: bool = True
    """fsdp2: free gathered weights between forward and backward; false: more memory, less traffic."""
    blocks: list[str] | None = None
    """fsdp2: prefixes of modules gathered one at a time, `encoder.layer.*` for every child; null: found."""


class OnNonFinite(StrEnum):
    """What a NaN or inf loss or gradient does."""

    error = "error"
    skip = "skip"
    rollback = "rollback"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass
class TrainConfig:
    """The top-level keys of `train.py`."""

    seed: int = 0
    """Seeds initialisation, data order and augmentation."""
    epochs: int = 20
    """Passes over the training data."""
    max_updates: int | None = None
    """Stop after so many updates; epochs is then unused."""
    batch_size: int = 64
    """Samples in a micro-batch, over all processes."""
    nproc: int = 1
    """Processes to start for the run, where torchrun has not."""
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    """How the model is spread over several processes."""
    device: str = "auto"
    """auto (the best there is), cpu, cuda, cuda:1 or mps."""
    compile: Any = False
    """Compile the model with torch.compile: true, or its mode, as reduce-overhead (CUDA graphs)."""
    channels_last: bool = False
    """Keep the model's and batches' tensors of four dimensions, as of images, in channels-last memory format."""
    deterministic: bool = False
    """Use deterministic algorithms, which may be slower."""
    num_workers: int = 0
    """Processes that load data beside the training process."""
    data_on_device: bool | None = None
    """Keep the data sets on the device; null: on CUDA, where they take a tenth of its free memory at most."""
    threads: int | None = None
    """Threads of the CPU; null: OMP_NUM_THREADS, else as suits the model's size and the machine's load."""
    data_root: str = "data"
    """Folder of data sets that are downloaded, where data.root says no other."""
    eval_every: int | None = None
    """Updates between evaluations; null: at the end of epochs, as eval_epochs says."""
    eval_epochs: int = 1
    """Epochs between evaluations, where eval_every is null."""
    log_every: int = 20
    """Updates between training rows."""
    objective: str | None = None
    """The metric that runs are judged by, as val/loss; null: the one that the task says, else val/loss."""
    resume: str | None = None
    """RUN_DIR: go on with that run; auto: with the one in the same folder, if there is one."""
    init_from: str | None = None
    """RUN_DIR or a checkpoint: begin with its weights, by name, as far as they fit."""
    on_nonfinite: OnNonFinite = OnNonFinite.error
    """What a NaN or inf loss or gradient does: error, skip (the update) or rollback (to the last checkpoint)."""
    optim_wrapper: Any = MISSING
    """The optimizer and how it is stepped: an OptimWrapperConfig, or a MultiOptimWrapperConfig."""
    schedule: dict[str, Any] = field(default_factory=dict)
    """Hyperparameter (lr, weight_decay, ...) -> scheduler; empty: constant."""
    data: Any = MISSING
    """The data set."""
    model: Any = MISSING
    """The network."""
    task: Any = MISSING
    """What a training step and an evaluation step compute."""
    logger: dict[str, Any] = field(default_factory=open_mapping)
    """Where rows are recorded beside metrics.csv: a name of one's choice -> a class and its arguments."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When the run saves itself."""
    log_level: LogLevel = LogLevel.INFO
    """DEBUG, INFO, WARNING or ERROR."""
    hooks: dict[str, Any] = field(default_factory=dict)
    """What else acts in the run: name -> a hook, such as early stopping."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """How a sweep deals with its jobs."""
    debug: DebugConfig = field(default_factory=DebugConfig)
    """Switches that help to find a fault."""
