"""Preprocessing gives what torchvision's transforms give, to the bit."""

import pytest
import torch
from torchvision.transforms import v2

from optwrap.vision.preprocessing import Preprocessing

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]


@pytest.mark.parametrize("size", [8, 12])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_torchvision_s_own_chain_to_the_bit(size, layout):
    images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8).to(memory_format=layout)
    before = images.clone()
    steps = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    chain = v2.Compose([v2.Resize([size, size], antialias=True), *steps])
    made = Preprocessing(MEAN, STD, size, resize=size != 8)(images)
    assert torch.equal(made, chain(images))
    assert torch.equal(images, before)
    assert made.dtype == torch.float32
