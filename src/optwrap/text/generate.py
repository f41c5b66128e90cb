"""Text from a language model, a token at a time."""

import torch
from torch import Tensor

from optwrap.text.gpt import GPT


@torch.no_grad()
def generate(
    model: GPT, prompt: Tensor, count: int, temperature: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Return `count` further tokens (N, count) after a prompt (N, T), drawn from the model's own probabilities.

    What was computed of earlier tokens is kept. Where the text grows beyond the model's length, it goes on from
    its last half. With temperature 0 the likeliest token is taken.
    """
    was_training = model.training
    model.eval()
    text, cache, new = prompt, model.new_cache(len(prompt)), prompt[:, -model.length :]
    # Compiled code would be made anew for each length.
    with torch.compiler.set_stance("force_eager"):
        for _ in range(count):
            if cache.used + new.shape[1] > model.length:
                cache, new = model.new_cache(len(prompt)), text[:, -max(1, model.length // 2) :]
            logits = model(new, cache=cache)[:, -1].float()
            new = _drawn(logits, temperature, generator)
            text = torch.cat([text, new], dim=1)
    model.train(was_training)
    return text[:, prompt.shape[1] :]


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    # On the CPU, whose generator is the same everywhere.
    chances = (logits / temperature).softmax(dim=-1).cpu()
    return torch.multinomial(chances, 1, generator=generator).to(logits.device)
