"""Weights of other projects in this package's encoders, by their names: the published SEW-ResNets and Spikformers.

- "spikingjelly": `model.sew_resnet` and `model.spikformer` of spikingjelly, and the SEW-ResNets of Fang et al. 2021
  (github.com/fangwei123456/Spike-Element-Wise-ResNet).
- "spikformer": Zhou et al. 2023 (github.com/ZK-Zhou/spikformer). Queries, keys and values have a layer each there, and
  layers a bias before batch norm, which moves its mean here.

Weights are not all of a network: neurons, the scale of attention and the place of pools are this package's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from neuromoco.encoders.registry import Encoder
from neuromoco.encoders.spikformer import Spikformer
from neuromoco.errors import CheckpointError
from neuromoco.support.untrusted import one_line

Origin = Literal["spikingjelly", "spikformer"]
Names = list[tuple[str, str]]  # patterns, and what they become; {i} is the i-th convolution of the stem

SEW_RESNET: Names = [
    (r"conv1\.(.*)", r"stem.{0}.\1"),
    (r"bn1\.(.*)", r"stem.{0+1}.\1"),
    (r"(stages\.\d+\.)conv(\d)\.module\.0\.(.*)", r"\1conv\2.\3"),
    (r"(stages\.\d+\.)conv(\d)\.module\.1\.(.*)", r"\1bn\2.\3"),
    (r"(stages\.\d+\.downsample)\.0\.module\.(\d\..*)", r"\1.\2"),
    (r"(stages\.\d+\.(?:conv|bn|downsample\.).*)", r"\1"),
]
SPIKFORMER_JELLY: Names = [
    *((rf"patch_embed\.stages\.{i}\.conv_bn\.block\.0\.(.*)", rf"stem.{{{i}}}.\1") for i in range(4)),
    *((rf"patch_embed\.stages\.{i}\.conv_bn\.block\.1\.(.*)", rf"stem.{{{i}+1}}.\1") for i in range(4)),
    (r"patch_embed\.positional_encoding\.conv_bn\.block\.(\d\..*)", r"position.\1"),
    (r"(blocks\.\d+\.(?:attn|mlp)\..*)", r"\1"),
]
SPIKFORMER: Names = [
    *((rf"patch_embed\.proj_conv{i or ''}\.(.*)", rf"stem.{{{i}}}.\1") for i in range(4)),
    *((rf"patch_embed\.proj_bn{i or ''}\.(.*)", rf"stem.{{{i}+1}}.\1") for i in range(4)),
    (r"patch_embed\.rpe_conv\.(.*)", r"position.0.\1"),
    (r"patch_embed\.rpe_bn\.(.*)", r"position.1.\1"),
    (r"block\.(\d+\.attn)\.qkv_conv\.(.*)", r"blocks.\1.qkv_conv_bn.0.\2"),
    (r"block\.(\d+\.attn)\.qkv_bn\.(.*)", r"blocks.\1.qkv_conv_bn.1.\2"),
    (r"block\.(\d+\.attn)\.proj_conv\.(.*)", r"blocks.\1.proj_conv_bn.0.\2"),
    (r"block\.(\d+\.attn)\.proj_bn\.(.*)", r"blocks.\1.proj_conv_bn.1.\2"),
    (r"block\.(\d+\.mlp\.fc\d)_conv\.(.*)", r"blocks.\1.0.\2"),
    (r"block\.(\d+\.mlp\.fc\d)_bn\.(.*)", r"blocks.\1.1.\2"),
]
OTHERWISE = "spikingjelly's pools stand before the neurons, and its attention is scaled by 0.125, so outputs differ"
UNUSED = r"(?:pos_embed|norm\..*|block\.\d+\.norm\d\..*)"  # Spikformer declares them and computes nothing with them


@dataclass(frozen=True)
class Loaded:
    """What of a file went into an encoder.

    Attributes:
        tensors: number of them.
        unused: names in the file that have no place: its head, and what belongs to another architecture.
        fresh: tensors of the encoder that keep their values, each with the reason.
        otherwise: what is otherwise in that network, so that outputs differ.
    """

    tensors: int
    unused: tuple[str, ...]
    fresh: tuple[str, ...]
    otherwise: str = ""

    def __str__(self) -> str:
        line = f"{self.tensors} tensors by their names"
        for what, names in (("not used", self.unused), ("left as they begin", self.fresh)):
            line += f"; {what}: {one_line(', '.join(names))}" if names else ""
        return line + (f"; {self.otherwise}" if self.otherwise else "")


def load_foreign(encoder: Encoder, stored: Mapping[str, Tensor], origin: Origin, file: str) -> Loaded:
    """Loads a state dict of another project into an encoder by its names.

    What has no place is not loaded and named in the result.

    Raises:
        CheckpointError: less than half of the encoder's tensors are in the file; it names the first that is not.
    """
    try:
        given, unused = TRANSLATORS[origin](dict(stored), encoder.body)
    except (RuntimeError, IndexError) as error:  # of tensors that cannot be joined
        raise CheckpointError(f"{file}: is no network of {origin} ({one_line(error)})") from None
    own = encoder.body.state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    fresh = [_fresh(name, given.get(name), own[name]) for name in own if name not in fitting]
    if 2 * len(fitting) < len(own):
        raise CheckpointError(
            f"{file}: {len(fitting)} of the encoder's {len(own)} tensors are there by {origin}'s names; the first that "
            f"is not: {fresh[0]}; use the encoder and options of that network"
        )
    if odd := [name for name, tensor in fitting.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{file}: {odd[0]} has numbers that are not finite")
    encoder.body.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in fitting.items()}, strict=False)
    unused += [name for name in given if name not in own]
    jelly_spikformer = origin == "spikingjelly" and isinstance(encoder.body, Spikformer)
    return Loaded(len(fitting), tuple(sorted(unused)), tuple(fresh), OTHERWISE if jelly_spikformer else "")


def _fresh(name: str, given: Tensor | None, own: Tensor) -> str:
    return name if given is None else f"{name} ({list(given.shape)} in the file, {list(own.shape)} here)"


def _from_spikingjelly(stored: dict[str, Tensor], body: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    places = sorted({(int(m[1]), int(m[2])) for name in stored if (m := re.match(r"layer(\d+)\.(\d+)\.", name))})
    blocks = {f"layer{layer}.{block}.": f"stages.{number}." for number, (layer, block) in enumerate(places)}
    numbered = {re.sub(r"layer\d+\.\d+\.", lambda match: blocks[match[0]], name, count=1): name for name in stored}
    found, unused = _renamed(numbered, SPIKFORMER_JELLY + SEW_RESNET, body)
    return {name: stored[old] for name, old in found.items()}, unused


def _from_spikformer(stored: dict[str, Tensor], body: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    tensors = {name.replace("_linear.", "_conv."): tensor for name, tensor in stored.items()}
    for name in [name for name in tensors if re.search(r"\.attn\.q_(?:conv|bn)\.", name)]:
        parts = [tensors.pop(name.replace(".attn.q_", f".attn.{one}_"), None) for one in "qkv"]
        if name.endswith("num_batches_tracked"):
            parts = parts[:1]
        if all(part is not None for part in parts):
            joined = [part for part in parts if part is not None]
            tensors[name.replace(".q_", ".qkv_")] = torch.cat(joined) if len(joined) > 1 else joined[0]
    for name in [name for name in tensors if re.search(r"_conv\d?\.bias$", name)]:
        mean = name.replace("_conv", "_bn").replace(".bias", ".running_mean")
        if mean in tensors and tensors[mean].shape == tensors[name].shape:
            tensors[mean] = tensors[mean] - tensors.pop(name)
    for name in [name for name in tensors if re.search(r"\.(?:attn|mlp)\..*_conv\.weight$", name)]:
        tensors[name] = tensors[name].reshape(*tensors[name].shape[:2], 1)
    found, unused = _renamed({name: name for name in tensors}, SPIKFORMER, body)
    return {name: tensors[old] for name, old in found.items()}, unused


def _renamed(names: Mapping[str, str], rules: Names, body: nn.Module) -> tuple[dict[str, str], list[str]]:
    """The encoder's name for each name of a file, and those in the file that have none."""
    stem = body.get_submodule("stem")
    convolutions = [number for number, module in enumerate(stem.children()) if isinstance(module, nn.Conv2d)]
    found, unused = dict[str, str](), list[str]()
    for name, original in names.items():
        match = next(((m, new) for pattern, new in rules if (m := re.fullmatch(pattern, name))), None)
        if match is None:
            unused += [] if re.fullmatch(UNUSED, name) else [original]
            continue
        new = match[0].expand(match[1])
        place = re.search(r"\{(\d)(\+1)?\}", new)
        if place and int(place[1]) >= len(convolutions):
            unused.append(original)
            continue
        if place:
            new = new.replace(place[0], str(convolutions[int(place[1])] + (1 if place[2] else 0)))
        found[new] = original
    return found, unused


TRANSLATORS: dict[Origin, Callable[[dict[str, Tensor], nn.Module], tuple[dict[str, Tensor], list[str]]]] = {
    "spikingjelly": _from_spikingjelly,
    "spikformer": _from_spikformer,
}
