"""Image classification: data sets, models and the task that trains them."""

from optwrap.vision.data import ImageData, ImageDataset, PerSample, RandomShift, image_data
from optwrap.vision.datasets import cifar10, cifar100, digits, fake, fashion_mnist, from_torchvision, mnist
from optwrap.vision.folder_data import image_folder
from optwrap.vision.models import SmallCNN, SmallViT
from optwrap.vision.task import ClassificationTask
from optwrap.vision.torchvision_models import torchvision_model

__all__ = [
    "ClassificationTask",
    "ImageData",
    "ImageDataset",
    "PerSample",
    "RandomShift",
    "SmallCNN",
    "SmallViT",
    "cifar10",
    "cifar100",
    "digits",
    "fake",
    "fashion_mnist",
    "from_torchvision",
    "image_data",
    "image_folder",
    "mnist",
    "torchvision_model",
]
