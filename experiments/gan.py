"""A DCGAN and its task: two models that train against each other, each with a wrapper of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchvision.utils import save_image

from experiments.gan_score import EffectiveClasses, FrechetDistance, train_classifier
from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper, frozen
from optwrap.vision import ImageData


class DCGAN(nn.Module):
    """A generator and a discriminator for images whose size is a multiple of 4, from 8 up.

    Source: Radford et al., Unsupervised Representation Learning with DCGANs, 2016.
    """

    def __init__(self, channels: int, image_size: int, width: int = 32, noise_size: int = 64) -> None:
        super().__init__()
        if image_size < 8 or image_size % 4:
            raise ConfigError(
                f"data.image_size={image_size}: the DCGAN needs a multiple of 4 from 8 up, such as 28 or 32."
            )
        self.noise_size = noise_size
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(noise_size, 2 * width, image_size // 4, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, image_size // 8),
            nn.Flatten(start_dim=0),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, noise: Tensor) -> Tensor:
        """Return images (N, channels, H, W) between -1 and 1 from noise (N, noise_size)."""
        return self.generator(noise[:, :, None, None])


class GanTask:
    """The non-saturating GAN loss, one wrapper for each of the two players.

    `metrics` compares, on the features of a classifier trained on `data`, as many generated images as there
    are real ones in the evaluated split with those; and, in `real_distance`, as many training images: the
    distance that a perfect generator would have. All runs are measured with the same classifier and noise.
    """

    unit = "images"
    objective = "val/frechet_distance"

    def __init__(
        self,
        model: DCGAN,
        data: ImageData,
        num_classes: int,
        classifier_epochs: int = 1,
        classifier_width: int = 16,
    ) -> None:
        self.model = model
        self.training_set = data.train
        self.device = next(model.parameters()).device
        pixel_values = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
        images = pixel_values.expand(2, *data.train.images.shape[1:])
        self.black, self.white = data.train.prepare(images).to(self.device)
        self.classifier = train_classifier(data, num_classes, classifier_epochs, classifier_width, self.device)
        self.head = self.classifier.head
        self.classifier.set_submodule("head", nn.Identity())  # it gives features, of which head makes logits
        self.rng = torch.Generator()
        self.metrics = MetricCollection(
            {
                "frechet_distance": FrechetDistance(),
                "real_distance": FrechetDistance(),
                "effective_classes": EffectiveClasses(num_classes),
                "classifier_accuracy": MulticlassAccuracy(num_classes, average="micro"),
            },
            compute_groups=False,
        )

    def train_step(self, batch: Sequence[Tensor], optim_wrapper: Mapping[str, OptimWrapper]) -> dict[str, Tensor]:
        """Update the discriminator, then the generator against the updated discriminator."""
        if not isinstance(optim_wrapper, Mapping):
            raise ConfigError(
                "optim_wrapper: a GAN needs a wrapper for each of its two players: optim_wrapper=gan."
            )
        generator, discriminator = self.model.generator, self.model.discriminator
        real = (batch[0] - self.black) / (self.white - self.black) * 2 - 1
        noise = torch.randn(len(real), self.model.noise_size, device=self.device)

        with optim_wrapper["generator"].optim_context(generator):
            fake = self.model(noise).float()  # the discriminator may compute in another precision
        with optim_wrapper["discriminator"].optim_context(discriminator):
            # softplus(-x) and softplus(x): the binary cross entropies of a logit x with labels 1 and 0
            on_real = F.softplus(-discriminator(real).float()).mean()
            on_fake = F.softplus(discriminator(fake.detach()).float()).mean()
        optim_wrapper["discriminator"].update_params(on_real + on_fake)

        with optim_wrapper["generator"].optim_context(generator), frozen(discriminator):
            generator_loss = F.softplus(-discriminator(fake).float()).mean()
        optim_wrapper["generator"].update_params(generator_loss)

        losses = {"discriminator_loss": (on_real + on_fake).detach(), "generator_loss": generator_loss.detach()}
        return {"loss": losses["discriminator_loss"] + losses["generator_loss"]} | losses

    @torch.no_grad()
    def eval_step(self, batch: Sequence[Tensor]) -> None:
        """Compare a batch of real images with as many generated and as many training images."""
        real, labels = batch
        if not self.metrics["frechet_distance"].update_called:  # the first batch of an evaluation
            self.rng.manual_seed(0)
        noise = torch.randn(len(real), self.model.noise_size, generator=self.rng).to(self.device)
        rows = torch.randint(len(self.training_set), (len(real),), generator=self.rng)
        training = torch.stack([image for image, _ in self.training_set.__getitems__(rows.tolist())])
        # From between -1 and 1 to what the data set makes of its bytes, which is what the classifier knows
        generated = (self.model(noise) + 1) / 2 * (self.white - self.black) + self.black

        features = self.classifier(generated)
        real_features = self.classifier(real)
        self.metrics["frechet_distance"].update(features, real_features)
        self.metrics["real_distance"].update(self.classifier(training.to(self.device)), real_features)
        self.metrics["effective_classes"].update(self.head(features).argmax(dim=1))
        self.metrics["classifier_accuracy"].update(self.head(real_features), labels)

    @torch.no_grad()
    def predict_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return how real the discriminator takes each image for, between 0 and 1."""
        real = (batch[0] - self.black) / (self.white - self.black) * 2 - 1
        return {"realness": self.model.discriminator(real).sigmoid()}

    def export_inputs(self, batch: Sequence[Tensor]) -> Tensor:
        """Return noise for as many images: what is exported is the generator."""
        noise = torch.randn(len(batch[0]), self.model.noise_size, generator=torch.Generator().manual_seed(0))
        return noise.to(self.device)

    @torch.no_grad()
    def write_artifacts(self, folder: Path, update: int) -> list[Path]:
        """Draw 64 images, of the same noise every time, as `samples/UPDATE.png`; return it for the loggers."""
        noise = torch.randn(64, self.model.noise_size, generator=torch.Generator().manual_seed(0))
        was_training = self.model.training
        images = self.model.eval()(noise.to(self.device))
        self.model.train(was_training)
        (folder / "samples").mkdir(exist_ok=True)
        images = F.interpolate(images, scale_factor=2)  # each pixel as four
        path = folder / "samples" / f"{update:06d}.png"
        save_image(images, path, normalize=True, value_range=(-1, 1))
        return [path]
