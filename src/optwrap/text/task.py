"""Language modelling as a task of the training loop."""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optwrap.files import REFERENCES, write_json
from optwrap.metrics import Mean, Metrics
from optwrap.text.generate import generate
from optwrap.text.vocabulary import VOCABULARY, PairVocabulary, Vocabulary
from optwrap.text.windows import IGNORED

log = logging.getLogger(__name__)


class LanguageModelTask:
    """Cross entropy of the next token, weighted by how many there are: `inputs` and `targets` (N, T) in a batch.

    `metrics` holds 'loss' (nats a token) and 'bits_per_byte' (comparable over vocabularies) over what `eval_step`
    has seen since its last reset.

    Args:
        vocabulary: what makes text of tokens, which the data gives; None: no samples.
        samples, sample_tokens: how many texts are written as the run goes, and how long.
        temperature: of their draws.
        prompt: what they begin with.
        references: gives the bits a byte that others take, by name, which the data gives; None: none.
    """

    unit = "tokens"
    objective = "val/bits_per_byte"

    def __init__(
        self,
        model: nn.Module,
        vocabulary: Vocabulary | None = None,
        samples: int = 4,
        sample_tokens: int = 400,
        temperature: float = 0.8,
        prompt: str = "",
        references: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.samples, self.sample_tokens = samples, sample_tokens
        self.temperature, self.prompt = temperature, prompt
        self._references = references
        self.metrics = Metrics(loss=Mean(), bits_per_byte=Mean(higher_is_better=False))

    def train_step(self, batch: Mapping[str, Tensor], optim_wrapper: Any) -> dict[str, Tensor]:
        """Do one micro-batch; return its loss and the number of tokens that it predicts."""
        tokens = (batch["targets"] != IGNORED).sum()
        with optim_wrapper.optim_context(self.model):
            loss = self.losses(batch).sum() / tokens
        optim_wrapper.update_params(loss, weight=tokens)
        return {"loss": loss.detach(), "tokens": tokens}

    @torch.no_grad()
    def eval_step(self, batch: Mapping[str, Tensor]) -> None:
        """Add one batch to `metrics`."""
        losses = self.losses(batch)
        self.metrics["loss"].update(losses[batch["targets"].flatten() != IGNORED])
        self.metrics["bits_per_byte"].update(losses.double() / math.log(2), batch["bytes"])

    def losses(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of each target (N * T), zero where it is ignored."""
        documents = batch.get("documents")
        logits = self.model(batch["inputs"]) if documents is None else self.model(batch["inputs"], documents)
        flat = logits.float().flatten(0, 1)
        return F.cross_entropy(flat, batch["targets"].flatten(), ignore_index=IGNORED, reduction="none")

    def write_artifacts(self, folder: Path, update: int) -> list[Path]:
        """Write texts that the model makes, `samples/UPDATE.txt`.

        Once: what others take, `references.json`, and byte pairs, `vocabulary.json`.
        """
        if self._references is not None and not (folder / REFERENCES).exists():
            lines = dict(self._references())
            self._references = None  # what ranks above 0 write is thrown away, and would be missed each time
            write_json(folder / REFERENCES, {"bits_per_byte": lines})
            told = ", ".join(f"{name} {bits:.3f}" for name, bits in lines.items())
            log.info("bits per byte of val by others: %s", told)
        if isinstance(self.vocabulary, PairVocabulary) and not (folder / VOCABULARY).exists():
            self.vocabulary.write(folder / VOCABULARY)
        if self.vocabulary is None or not self.samples:
            return []
        start = [self.vocabulary.separator, *self.vocabulary.encode(self.prompt.encode()).tolist()]
        device = next(self.model.parameters()).device
        prompt = torch.tensor([start] * self.samples, device=device)
        draws = torch.Generator().manual_seed(update)
        model: Any = getattr(self.model, "module", self.model)  # inside DDP
        made = generate(model, prompt, self.sample_tokens, self.temperature, draws)
        texts = [self.prompt + self.vocabulary.decode(row) for row in made.tolist()]
        file = folder / "samples" / f"{update:06}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(("\n" + "=" * 72 + "\n").join(texts), encoding="utf-8")
        return [file]
