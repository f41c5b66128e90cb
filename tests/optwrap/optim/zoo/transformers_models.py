"""Architectures of transformers and where their layers are, by their code: stacks in the order of their use."""

import re
from collections.abc import Iterator, Sequence

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


# Task -> architectures, and the names of the layers that are its head; null: get_output_embeddings() says.
HEADS: dict[str, tuple[str, str | None]] = {
    "AutoModel": (
        f"{' '.join(LAYERS)} qwen2_moe qwen3_moe gpt_oss olmoe jetmoe granitemoe deepseek_v3 lxmert",
        "",
    ),
    "AutoModelForCausalLM": (
        "gpt2 gpt_neox opt bloom falcon llama mistral mixtral qwen2 qwen3 qwen2_moe qwen3_moe gemma gemma2 phi3 "
        "mamba gpt_oss olmoe jetmoe granitemoe deepseek_v3",
        None,
    ),
    "AutoModelForMaskedLM": ("bert roberta distilbert electra deberta-v2 modernbert", None),
    "AutoModelForSeq2SeqLM": ("t5 bart", None),
    "AutoModelForSpeechSeq2Seq": ("whisper", None),
    "AutoModelForCTC": ("wav2vec2", "lm_head"),
    "AutoModelForSequenceClassification": (
        "bert distilbert deberta-v2 modernbert gpt2 llama roberta electra t5 bart",
        "classifier score classifier.out_proj classification_head.out_proj",
    ),
    "AutoModelForQuestionAnswering": ("bert distilbert", "qa_outputs"),
    "AutoModelForImageClassification": (
        "vit dinov2 swin convnext resnet beit cvt regnet mobilenet_v2 efficientnet segformer poolformer",
        "classifier",
    ),
    "AutoModelForObjectDetection": ("detr", "class_labels_classifier bbox_predictor.layers.2"),
}
TOWERS = {"clip": "visual_projection text_projection", "flava": "image_projection text_projection"}


def of_task() -> Iterator[tuple[str, nn.Module, list[str]]]:
    """Yield name, model on the meta device and the layers of its head, of every task and architecture."""
    import transformers

    for task, (architectures, heads) in HEADS.items():
        for name in architectures.split():
            with torch.device("meta"):
                model = getattr(transformers, task).from_config(transformers.CONFIG_MAPPING[name]())
            modules = dict(model.named_modules())
            output = model.get_output_embeddings() if heads is None else None
            told = [each for each, module in modules.items() if module is output]
            named = [each for each in (heads or "").split() if each in modules]
            yield f"{name} ({task})", model, told or [each for each in named if not any(modules[each].children())]
    for name, projections in TOWERS.items():
        yield name, build(name), projections.split()


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
