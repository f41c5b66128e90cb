"""The job with Lightning's Trainer, composed by Hydra from groups of configs as lightning-hydra-template does."""

from typing import Any

import hydra
import lightning
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric

from tests.optwrap.benchmarks.jobs.stamps import Stamps
from tests.optwrap.benchmarks.jobs.work import WORKS, loaders, loss_of, optimizer_of, schedule_of


class Data(lightning.LightningDataModule):
    """The samples."""

    def __init__(self, name: str, folder: str) -> None:
        super().__init__()
        self.train, self.val = loaders(WORKS[name], folder)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches."""
        return self.train

    def val_dataloader(self) -> DataLoader[Any]:
        """Return those to evaluate on."""
        return self.val


class Module(lightning.LightningModule):
    """The model, its loss and its optimizer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.work = WORKS[name]
        self.net = self.work.model()
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Return the loss of a batch."""
        loss = loss_of(self.net, batch)
        self.train_loss(loss)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        """Add a batch to the evaluation."""
        self.val_loss(loss_of(self.net, batch))
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Return the optimizer, whose schedule moves with updates."""
        optimizer = optimizer_of(self.net, self.work)
        schedule = schedule_of(optimizer, self.work)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Stamped(lightning.Callback):
    """Notes when updates are done."""

    def __init__(self) -> None:
        self.stamps = Stamps()

    def on_train_batch_end(self, *args: Any) -> None:
        """Note it."""
        self.stamps.update()

    def on_fit_end(self, *args: Any) -> None:
        """Print them."""
        self.stamps.report()


@hydra.main(version_base="1.3", config_path="lightning_conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """Build all parts and fit."""
    lightning.seed_everything(cfg.seed, workers=True)
    data = hydra.utils.instantiate(cfg.data)
    module = hydra.utils.instantiate(cfg.model)
    callbacks = [hydra.utils.instantiate(each) for each in cfg.callbacks.values()]
    loggers = [hydra.utils.instantiate(each) for each in cfg.logger.values()]
    trainer = hydra.utils.instantiate(cfg.trainer, callbacks=callbacks, logger=loggers)
    trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    main()
