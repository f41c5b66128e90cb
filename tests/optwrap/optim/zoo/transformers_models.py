"""Architectures of transformers and where their layers are, by their code: stacks in the order of their use."""

import re
from collections.abc import Sequence

import torch
from torch import nn

# Name of the config -> the stacks, each with the number of its layers, and what stands in the stem and the head.
LAYERS = {
    "bert": (["encoder.layer:12"], "embeddings", "pooler"),
    "roberta": (["encoder.layer:12"], "embeddings", "pooler"),
    "distilbert": (["transformer.layer:6"], "embeddings", None),
    "electra": (["encoder.layer:12"], "embeddings embeddings_project", None),
    "deberta-v2": (["encoder.layer:24"], "embeddings", None),
    "modernbert": (["layers:22"], "embeddings", "final_norm"),
    "gpt2": (["h:12"], "wte wpe", "ln_f"),
    "gpt_neox": (["layers:44"], "embed_in", "final_layer_norm"),
    "opt": (["decoder.layers:12"], "decoder.embed_tokens decoder.embed_positions", "decoder.final_layer_norm"),
    "bloom": (["h:2"], "word_embeddings word_embeddings_layernorm", "ln_f"),
    "falcon": (["h:32"], "word_embeddings", "ln_f"),
    "llama": (["layers:32"], "embed_tokens", "norm"),
    "mistral": (["layers:32"], "embed_tokens", "norm"),
    "mixtral": (["layers:32"], "embed_tokens", "norm"),
    "qwen2": (["layers:32"], "embed_tokens", "norm"),
    "qwen3": (["layers:32"], "embed_tokens", "norm"),
    "gemma": (["layers:28"], "embed_tokens", "norm"),
    "gemma2": (["layers:26"], "embed_tokens", "norm"),
    "phi3": (["layers:32"], "embed_tokens", "norm"),
    "mamba": (["layers:32"], "embeddings", "norm_f"),
    "t5": (["encoder.block:6", "decoder.block:6"], "shared", "decoder.final_layer_norm"),
    "bart": (["encoder.layers:12", "decoder.layers:12"], "shared decoder.layernorm_embedding", None),
    "whisper": (["encoder.layers:4", "decoder.layers:4"], "encoder.conv1 encoder.conv2", "decoder.layer_norm"),
    "wav2vec2": (["encoder.layers:12"], "feature_extractor feature_projection encoder.pos_conv_embed", None),
    "vit": (["layers:12"], "embeddings", "layernorm pooler"),
    "dinov2": (["encoder.layer:12"], "embeddings", "layernorm"),
    "swin": (["encoder.layers.0.blocks:2", "encoder.layers.1.blocks:2", "encoder.layers.2.blocks:6",
              "encoder.layers.3.blocks:2"], "embeddings", "layernorm"),
    "convnext": (["encoder.stages.0.layers:3", "encoder.stages.1.layers:3", "encoder.stages.2.layers:9",
                  "encoder.stages.3.layers:3"], "embeddings", "layernorm"),
    "resnet": (["encoder.stages.0.layers:3", "encoder.stages.1.layers:4", "encoder.stages.2.layers:6",
                "encoder.stages.3.layers:3"], "embedder", None),
    "detr": (["backbone.model.layer1:3", "backbone.model.layer2:4", "backbone.model.layer3:6",
              "backbone.model.layer4:3", "encoder.layers:6", "decoder.layers:6"],
             "backbone.model.conv1 query_position_embeddings", "decoder.layernorm"),
}  # fmt: skip

# Towers that run side by side, all of which the error lists.
PARALLEL = {
    "clip": ["text_model.encoder.layers", "vision_model.encoder.layers"],
    "siglip": ["text_model.encoder.layers", "vision_model.encoder.layers"],
    "flava": ["text_model.encoder.layer", "image_model.encoder.layer", "multimodal_model.encoder.layer"],
    "lxmert": ["encoder.layer", "encoder.x_layers", "encoder.r_layers"],
}

# As Trainer.get_decay_parameter_names tells what has weight decay: by names, and torch's LayerNorm.
_PATTERNS = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def build(name: str) -> nn.Module:
    """Return the model of an architecture's own default config, on the meta device."""
    from transformers import CONFIG_MAPPING, AutoModel  # takes its time to load

    with torch.device("meta"):
        return AutoModel.from_config(CONFIG_MAPPING[name]())


def expected_blocks(stacks: Sequence[str]) -> list[str]:
    """Return the names of the layers of some stacks, each `name:number`."""
    counted = [stack.split(":") for stack in stacks]
    return [f"{name}.{i}" for name, number in counted for i in range(int(number))]


def decayed_by_trainer(model: nn.Module) -> set[str]:
    """Return the names of the parameters to which transformers' Trainer applies weight decay."""
    from transformers.trainer_pt_utils import get_parameter_names

    return set(get_parameter_names(model, [nn.LayerNorm], _PATTERNS))


def is_within(name: str, modules: str) -> bool:
    """Whether a name is that of something in one of the modules, which are separated by spaces."""
    return any(re.match(rf"{re.escape(module)}(\.|$)", name) for module in modules.split())
