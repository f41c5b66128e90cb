"""Where a run's rows go: metrics.csv always, trackers beside it, which no run waits for. `Logger` is the protocol.

A config names what is here by `_target_: optwrap.loggers.X`; packages are loaded where a logger starts.
"""

from optwrap.loggers.csv_logger import CsvLogger
from optwrap.loggers.mlflow_logger import MlflowLogger
from optwrap.loggers.protocol import Logger, Run
from optwrap.loggers.tensorboard_logger import TensorBoardLogger
from optwrap.loggers.trackio_logger import TrackioLogger
from optwrap.loggers.wandb_logger import WandbLogger

__all__ = ["CsvLogger", "Logger", "MlflowLogger", "Run", "TensorBoardLogger", "TrackioLogger", "WandbLogger"]
