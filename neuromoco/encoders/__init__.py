"""Spiking encoders: frames [T, N, P, H, W] in, one feature vector per time step [T, N, D] out."""

from neuromoco.encoders import chain, sew_resnet, spikformer
from neuromoco.encoders.registry import Encoder, build_encoder, describe_encoders, list_encoders, register_encoder

__all__ = [
    "Encoder",
    "build_encoder",
    "chain",
    "describe_encoders",
    "list_encoders",
    "register_encoder",
    "sew_resnet",
    "spikformer",
]
