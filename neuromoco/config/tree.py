"""Every setting of a run, frozen, in one tree. Unknown names and wrong types are refused when it is built."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class Settings(BaseModel):
    """A frozen group of settings that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FrameConfig(Settings):
    """How recordings become frames [T, P, H, W], see `neuromoco.frames.to_frames`."""

    steps: PositiveInt = 4
    slice_by: Literal["count", "time"] = "count"
    height: PositiveInt = 34
    width: PositiveInt = 34


class NeuronConfig(Settings):
    """The leaky integrate-and-fire neuron of every layer, see `neuromoco.neurons`."""

    tau: float = Field(2.0, gt=1.0)
    v_threshold: PositiveFloat = 1.0
    surrogate: Literal["atan", "sigmoid"] = "atan"


class EncoderConfig(Settings):
    """Which encoder of the registry, its own options, and its neuron."""

    name: str = "sew_resnet_tiny"
    options: dict[str, Any] = {}
    neuron: NeuronConfig = NeuronConfig()


class ViewConfig(Settings):
    """How a second look at the same recording differs, see `neuromoco.views`.

    Attributes:
        policy: "nda": one of roll, rotate, shear, as NDA was published. "nda-mn": its M/N form, `ops`
            different operations. "group": the set of NeuroMoCo's group, one of identity, shear x,
            shear y, translate x, translate y, rotate, cutout. "affine": shear, scale, rotation and shift
            in one map, then a cutout, always all of them.
        flip: chance of a horizontal flip before that. Zero where left and right mean something.
        shift: largest roll or translation, pixels.
        rotate: largest rotation, degrees.
        shear: largest shear, as the tangent of its angle.
        scale: largest change of size, as a share of it, "affine" only.
        cutout: side of the square that is erased, pixels.
        drop: largest share of the events that is left out at random, so that the number of events does
            not give a recording away.
        ops: operations a view, "nda-mn" only.
    """

    policy: Literal["nda", "nda-mn", "group", "affine"] = "group"
    flip: float = Field(0.5, ge=0.0, le=1.0)
    shift: NonNegativeInt = 5
    rotate: float = Field(30.0, ge=0.0, le=180.0)
    shear: NonNegativeFloat = 0.3
    scale: float = Field(0.0, ge=0.0, lt=1.0)
    cutout: NonNegativeInt = 8
    drop: float = Field(0.0, ge=0.0, lt=1.0)
    ops: int = Field(1, ge=1, le=4)


class OptimizerConfig(Settings):
    """An optimizer and its schedule: linear warm-up, then a cosine down to `min_lr`, step by step."""

    name: Literal["sgd", "adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    min_lr: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    sgd_momentum: float = Field(0.9, ge=0.0, lt=1.0)
    warmup_epochs: NonNegativeInt = 0
    grad_clip: PositiveFloat | None = None


class MocoConfig(Settings):
    """The method's own numbers, see `neuromoco.moco` and `neuromoco.losses`.

    Attributes:
        embed_dim: D, width of an embedding.
        hidden_dim: width of the projection head's hidden layer.
        queue_size: K, keys of earlier batches; stay below the number of training recordings, or each
            recording meets its own older key as a negative.
        momentum: m of `theta_k = m * theta_k + (1 - m) * theta_q`.
        temperature: of the softmax over similarities.
        alpha: weight of MBC (mean before criterion).
        beta: weight of MAC (mean after criterion).
        negatives: "plain" or "group", the two readings of the negatives.
    """

    embed_dim: PositiveInt = 128
    hidden_dim: PositiveInt = 512
    queue_size: PositiveInt = 1024
    momentum: float = Field(0.99, ge=0.0, lt=1.0)
    temperature: PositiveFloat = 0.2
    alpha: NonNegativeFloat = 0.5
    beta: NonNegativeFloat = 0.5
    negatives: Literal["plain", "group"] = "plain"


class PretrainConfig(Settings):
    """Momentum-contrast pre-training without labels.

    Attributes:
        share: part of the recordings to train on, drawn by the seed; a larger one holds the smaller.
        epochs: passes over them.
        batch_size: recordings a step.
        moco: the method.
        views: how the two views of a recording differ from it.
        optimizer: optimizer and schedule.
    """

    share: float = Field(1.0, gt=0.0, le=1.0)
    epochs: PositiveInt = 100
    batch_size: PositiveInt = 64
    moco: MocoConfig = MocoConfig()
    views: ViewConfig = ViewConfig()
    optimizer: OptimizerConfig = OptimizerConfig()


class ClassifyConfig(Settings):
    """Training with labels: fine-tuning a pre-trained encoder, or training one from scratch.

    Attributes:
        epochs: passes over the labelled recordings.
        batch_size: recordings a step.
        validation: share of every class that is kept apart to choose `best`; 0 keeps none, and then
            only the last epoch's weights are written.
        labels_per_class: use so many labelled recordings of every class; None uses all.
        freeze_encoder: train the linear head alone.
        encoder_lr_scale: the encoder's learning rate as a share of the head's.
        quantize: "loihi": train weights as Loihi rounds them, see `neuromoco.quantize`; finetune only.
        label_smoothing: of the cross-entropy.
        views: augmentation, or None.
        optimizer: optimizer and schedule.
    """

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 32
    validation: float = Field(0.15, ge=0.0, lt=1.0)
    labels_per_class: PositiveInt | None = None
    freeze_encoder: bool = False
    encoder_lr_scale: PositiveFloat = 1.0
    quantize: Literal["loihi"] | None = None
    label_smoothing: float = Field(0.1, ge=0.0, lt=1.0)
    views: ViewConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()


class HoldOutConfig(Settings):
    """Recordings of the training part that no stage sees, see `neuromoco.datasets.splits.hold_out`.

    Attributes:
        folds: parts that each class is cut into.
        fold: which of them is kept apart, from 0.
    """

    folds: int = Field(ge=2)
    fold: NonNegativeInt

    @model_validator(mode="after")
    def _one_of_them(self) -> HoldOutConfig:
        if self.fold >= self.folds:
            raise ValueError(f"held_out: fold {self.fold} of {self.folds}; the first is 0, the last {self.folds - 1}")
        return self


class RunConfig(Settings):
    """One complete run.

    Attributes:
        stage: "pretrain" without labels, "finetune" a pre-trained encoder with labels, "supervised" from
            scratch with labels, or "all": pretrain, then finetune on the same recordings.
        data: a folder of recordings, or the name of a data set, see `neuromoco.datasets.named`.
        held_out: recordings that no stage sees, or None.
        init: the checkpoint that "finetune" begins from.
        seed: of weights, order, views and splits.
        frames: how recordings become frames.
        encoder: the network.
        pretrain: settings of that stage.
        finetune: settings of that stage.
        supervised: settings of that stage.
    """

    stage: Literal["pretrain", "finetune", "supervised", "all"] = "all"
    data: str = "digits"
    held_out: HoldOutConfig | None = None
    init: str | None = None
    seed: int = Field(0, ge=0, lt=2**32)
    frames: FrameConfig = FrameConfig()
    encoder: EncoderConfig = EncoderConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: ClassifyConfig = ClassifyConfig()
    supervised: ClassifyConfig = ClassifyConfig()

    @model_validator(mode="after")
    def _quantize_where_it_can(self) -> RunConfig:
        """Rounding begins from weights that are good already, and moves them all."""
        used = self.finetune if self.stage in ("finetune", "all") else self.supervised
        if used.quantize and self.stage in ("supervised", "all"):
            raise ValueError(f"quantize with stage {self.stage}; train first, then finetune with it")
        if used.quantize and self.stage == "finetune" and used.freeze_encoder:
            raise ValueError("quantize with a frozen encoder, which must not change; choose one of them")
        return self
