"""Models of timm for which optwrap does otherwise than timm, and why."""


def _all(groups: dict[str, str]) -> dict[str, str]:
    return {name: reason for reason, names in groups.items() for name in names.split()}


# Learning rates or weight decay are not those of timm's param_groups_layer_decay.
SCALES = _all({
    "has no group_matcher, so timm cuts its list of parameters into twelve equal parts":
        "caformer_b36 caformer_m36 caformer_s18 caformer_s36 convformer_b36 convformer_m36 convformer_s18 "
        "convformer_s36 csatv2 csatv2_21m mobilenetv5_300m_enc pit_b_224 pit_b_distilled_224 pit_s_224 "
        "pit_s_distilled_224 pit_ti_224 pit_ti_distilled_224 pit_xs_224 pit_xs_distilled_224 poolformer_m36 "
        "poolformer_m48 poolformer_s12 poolformer_s24 poolformer_s36 poolformerv2_m36 poolformerv2_m48 "
        "poolformerv2_s12 poolformerv2_s24 poolformerv2_s36",
    "no_weight_decay() of its attention layers names the temperature; timm asks the whole model alone":
        "edgenext_base edgenext_small edgenext_small_rw edgenext_x_small edgenext_xx_small",
    "its Affine, which stands for a norm, has dimensions of one beside its channels: weight decay in timm":
        "resmlp_12_224 resmlp_24_224 resmlp_36_224 resmlp_big_24_224",
})  # fmt: skip

# The blocks are not found without the model's word.
FOUND = _all({
    "parallel blocks beside the serial ones": "coat_mini coat_small coat_tiny",
    "blocks of its head beside those of its stages": "hrnet_w18_small hrnet_w18_small_v2",
})  # fmt: skip

# Norm, bias and flat parameters are not those of timm's param_groups_weight_decay.
DECAY = _all({
    "a gain of no dimension is not one-dimensional":
        "dm_nfnet_f0 dm_nfnet_f1 dm_nfnet_f2 dm_nfnet_f3 dm_nfnet_f4 dm_nfnet_f5 dm_nfnet_f6",
    "its Affine, which stands for a norm, has dimensions of one beside its channels: weight decay in timm":
        "resmlp_12_224 resmlp_24_224 resmlp_36_224 resmlp_big_24_224",
})  # fmt: skip

# A head is in Muon, or a hidden matrix is left out, or the head is not clear.
MUON: dict[str, str] = {}
