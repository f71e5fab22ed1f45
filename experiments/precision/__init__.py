"""Whether bf16, channels last and compilation cost robust accuracy."""
