"""How far the gradient of accumulated micro-batches is from that of the whole batch, with weights and without.

python -m experiments.segmentation_gradients
"""

import torch
from torch import Tensor

from experiments.accumulated import distance, flat, gradient
from experiments.segmentation import IGNORED, EncoderDecoder, SegmentationTask, digit_scenes, pixel_losses


def gradients(
    images: Tensor, masks: Tensor, micro_batch: int, weighted: bool, seed: int, width: int = 16
) -> tuple[Tensor, Tensor]:
    """Return the gradient of a fresh model, accumulated by a wrapper, and by plain torch from the whole batch."""
    torch.manual_seed(seed)
    model = EncoderDecoder(1, 11, width)
    pixels = (masks != IGNORED).sum()
    (pixel_losses(model(images), masks).sum() / pixels).backward()
    whole = flat(param.grad for param in model.parameters())
    model.zero_grad()
    parts = list(zip(images.split(micro_batch), masks.split(micro_batch), strict=True))
    return gradient(SegmentationTask(model, 11, weighted), parts), whole


def main() -> None:
    """Print the relative distance for micro-batches of several sizes."""
    train = digit_scenes(size=96, eval_size=1).train
    print("micro-batches  weighted  mean of means (seeds 0, 1, 2)")
    for micro_batch in (1, 2, 4, 8, 16):
        off: dict[bool, list[float]] = {True: [], False: []}
        for seed in range(3):
            images, masks = (each[32 * seed : 32 * (seed + 1)] for each in train.tensors)
            for weighted, errors in off.items():
                accumulated, whole = gradients(images, masks, micro_batch, weighted, seed)
                errors.append(distance(accumulated, whole))
        shown = ", ".join(f"{each:.0%}" for each in off[False])
        print(f"{32 // micro_batch:2} of {micro_batch:2}       {max(off[True]):.0e}     {shown}")


if __name__ == "__main__":
    main()
