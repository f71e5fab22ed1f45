"""What torchvision calls the weights of networks that timm has, too, with the same eps and padding.

ResNets and DenseNets have the same names in both. EfficientNets and MobileNets are left out: in some of them the
BatchNorm of torchvision has another eps, which no name tells.
"""

from lightning_adv.models.naming import Naming

__all__ = ["TORCHVISION"]

_BLOCK = "encoder.layers.encoder_layer_*"
_STAGES = range(4)

TORCHVISION = (
    Naming(
        "torchvision's vision transformers",
        "vit_base_patch16_224 (vit_b_16), vit_base_patch32_224 (vit_b_32), vit_large_patch16_224 (vit_l_16)",
        ("conv_proj.weight", "class_token", "encoder.ln.weight", "heads.head.weight"),
        {
            "conv_proj": "patch_embed.proj",
            "class_token": "cls_token",
            "encoder.pos_embedding": "pos_embed",
            f"{_BLOCK}.ln_1": "blocks.*.norm1",
            f"{_BLOCK}.ln_2": "blocks.*.norm2",
            f"{_BLOCK}.self_attention.in_proj_weight": "blocks.*.attn.qkv.weight",
            f"{_BLOCK}.self_attention.in_proj_bias": "blocks.*.attn.qkv.bias",
            f"{_BLOCK}.self_attention.out_proj": "blocks.*.attn.proj",
            f"{_BLOCK}.mlp.0": "blocks.*.mlp.fc1",
            f"{_BLOCK}.mlp.3": "blocks.*.mlp.fc2",
            f"{_BLOCK}.mlp.linear_1": "blocks.*.mlp.fc1",  # before torchvision 0.14
            f"{_BLOCK}.mlp.linear_2": "blocks.*.mlp.fc2",
            "encoder.ln": "norm",
            "heads.head": "head",
        },
    ),
    Naming(
        "torchvision's ConvNeXts",
        "convnext_tiny, convnext_small, convnext_base or convnext_large",
        ("features.0.0.weight", "features.1.0.layer_scale", "classifier.0.weight", "classifier.2.weight"),
        {"features.0.*": "stem.*", "classifier.0": "head.norm", "classifier.2": "head.fc"}
        | {
            f"features.{2 * stage + 1}.*.{theirs}": f"stages.{stage}.blocks.*.{ours}"
            for stage in _STAGES
            for theirs, ours in {
                "block.0": "conv_dw",
                "block.2": "norm",
                "block.3": "mlp.fc1",
                "block.5": "mlp.fc2",
                "layer_scale": "gamma",
            }.items()
        }
        | {f"features.{2 * stage}.*": f"stages.{stage}.downsample.*" for stage in _STAGES[1:]},
        reshaped=("gamma",),
    ),
    Naming(
        "torchvision's VGG networks",
        "vgg11, vgg13, vgg16 or vgg19, with _bn where it has BatchNorm",
        ("features.0.weight", "classifier.0.weight", "classifier.3.weight", "classifier.6.weight"),
        {
            "features.*": "features.*",
            "classifier.0": "pre_logits.fc1",
            "classifier.3": "pre_logits.fc2",
            "classifier.6": "head.fc",
        },
        reshaped=("pre_logits.fc1.weight", "pre_logits.fc2.weight"),
    ),
)
"""Layouts of torchvision's networks."""
