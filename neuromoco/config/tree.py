"""Every setting of a run, in one frozen tree. Unknown names and wrong types raise an error when it is built."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, model_validator

from neuromoco.config.base import NonNegativeInt, PositiveInt, Settings, Width
from neuromoco.config.frames import FrameConfig
from neuromoco.config.recordings import RecordingsConfig
from neuromoco.config.rivals import RivalConfig
from neuromoco.config.views import PoolConfig, ViewConfig


class NeuronConfig(Settings):
    """The leaky integrate-and-fire neuron of every layer, see `neuromoco.snn.neurons`."""

    # Beyond these limits, float32 no longer tells a membrane from its input.
    tau: float = Field(2.0, gt=1.0, le=1e6)
    v_threshold: float = Field(1.0, gt=0.0, le=1e6)
    surrogate: Literal["atan", "sigmoid"] = "atan"


class EncoderConfig(Settings):
    """The name of a registered encoder, its options, and its neuron."""

    name: str = "sew_resnet_tiny"
    options: dict[str, Any] = {}
    neuron: NeuronConfig = NeuronConfig()


class OptimizerConfig(Settings):
    """An optimizer and its learning-rate schedule: linear warm-up, then a cosine down to `min_lr`.

    Attributes:
        weight_decay: of AdamW (decoupled) or SGD.
        decay: what decays. "weights": matrices and kernels; a strong decay would drive gains and biases to zero.
            "all": every parameter, as in the first runs of this package.
    """

    name: Literal["sgd", "adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    min_lr: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    decay: Literal["weights", "all"] = "weights"
    sgd_momentum: float = Field(0.9, ge=0.0, lt=1.0)
    warmup_epochs: NonNegativeInt = 0
    grad_clip: PositiveFloat | None = None


class MocoConfig(Settings):
    """Momentum contrast and its loss, see `neuromoco.moco` and `neuromoco.losses`.

    Attributes:
        embed_dim: D, width of an embedding.
        hidden_dim: width of the projection head's hidden layer.
        head: "batch_norm" normalises within the projection head, which keeps few recordings from collapsing; "plain" is
            the head of MoCo v2.
        queue_size: K, keys of earlier batches; keep it below the number of training recordings, or the negatives
            of a recording include its own older key.
        momentum: m of `theta_k = m * theta_k + (1 - m) * theta_q`.
        momentum_schedule: "constant", or "cosine": from `momentum` at the first step to 1 at the last.
        temperature: of the softmax over similarities.
        alpha: weight of MBC (mean before criterion).
        beta: weight of MAC (mean after criterion).
        negatives: "plain" or "group", the two readings of the negatives.
        batch_norm: source of the statistics. "plain": the batch in this process. "shuffled": groups, which differ
            between query and key, so that statistics do not reveal the positive. "sync": all processes' batches.
        batch_norm_groups: number of groups for "shuffled", over all processes; MoCo had 8, on 8 GPUs.
    """

    added: ClassVar[tuple[str, ...]] = ("head",)
    embed_dim: Width = 128
    hidden_dim: Width = 512
    head: Literal["plain", "batch_norm"] = "plain"
    queue_size: PositiveInt = 1024
    momentum: float = Field(0.99, ge=0.0, lt=1.0)
    momentum_schedule: Literal["constant", "cosine"] = "constant"
    temperature: PositiveFloat = 0.2
    alpha: NonNegativeFloat = 0.5
    beta: NonNegativeFloat = 0.5
    negatives: Literal["plain", "group"] = "plain"
    batch_norm: Literal["plain", "shuffled", "sync"] = "shuffled"
    batch_norm_groups: int = Field(4, ge=2, lt=1 << 31)

    @property
    def groups(self) -> int:
        """Number of groups that batch norm divides a batch into."""
        return self.batch_norm_groups if self.batch_norm == "shuffled" else 1


class PretrainConfig(Settings):
    """Pre-training without labels.

    Attributes:
        method: "moco" is momentum contrast, the method of this package; the others are there to compare it with, and
            take the settings of `rival` instead of those of `moco`.
        positives: "views" are two of one recording; "group" takes the second of another recording of the same group
            (`recordings.group`), such as the same scene before another camera.
        share: of the recordings to train on, drawn by the seed; a larger share includes every smaller one.
        epochs: passes over these recordings.
        batch_size: recordings per optimizer step, over all processes and passes.
        accumulate: passes through the network that a batch is divided into, to save memory; "simclr" and "vicreg"
            compare within a pass, so it changes their loss.
        moco: momentum contrast and its loss.
        rival: the other methods.
        views: the random transformation for both views.
        optimizer: optimizer and schedule.
    """

    added: ClassVar[tuple[str, ...]] = ("method", "positives", "rival")
    method: Literal["moco", "simclr", "byol", "vicreg"] = "moco"
    positives: Literal["views", "group"] = "views"
    share: float = Field(1.0, gt=0.0, le=1.0)
    epochs: PositiveInt = 100
    batch_size: PositiveInt = 64
    accumulate: PositiveInt = 1
    moco: MocoConfig = MocoConfig()
    rival: RivalConfig = RivalConfig()
    views: ViewConfig = ViewConfig()
    optimizer: OptimizerConfig = OptimizerConfig()


class ClassifyConfig(Settings):
    """Training with labels: fine-tuning a pre-trained encoder, or training from scratch.

    Attributes:
        epochs: passes over the labelled recordings.
        batch_size: recordings per optimizer step, over all processes and passes.
        accumulate: passes through the network that a batch is divided into, to save memory.
        validation: share of the labelled recordings of every class that is held out to choose `best`. Fewer than 30 in
            all cannot choose: then they train too, and only the last weights are written.
        labels_per_class: labelled recordings of every class, those held out included; None uses all.
        freeze_encoder: train the linear head alone.
        encoder_lr_scale: the encoder's learning rate divided by the head's.
        quantize: "loihi": train with weights rounded as on Loihi, see `neuromoco.train.loihi_rounding`; finetune only.
        label_smoothing: of the cross-entropy.
        mixup: alpha of mixup (Zhang et al. 2018, arXiv 1710.09412): shares are from Beta(alpha, alpha); 0 is off.
        mixup_epochs: the last epoch with mixup; None means all.
        sync_batch_norm: batch statistics over all processes.
        views: the random transformation of recordings, or None.
        optimizer: optimizer and schedule.
        calibration_folds: where no recordings validate, train so many times more, each without one fold of the
            recordings, whose answers then calibrate the probabilities; 0 leaves them as they are.
        pool: what the recordings without labels are used for, beyond pre-training; None for nothing.
    """

    added: ClassVar[tuple[str, ...]] = ("calibration_folds", "pool")
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 32
    accumulate: PositiveInt = 1
    validation: float = Field(0.15, ge=0.0, lt=1.0)
    labels_per_class: PositiveInt | None = None
    freeze_encoder: bool = False
    encoder_lr_scale: PositiveFloat = 1.0
    quantize: Literal["loihi"] | None = None
    label_smoothing: float = Field(0.1, ge=0.0, lt=1.0)
    mixup: NonNegativeFloat = 0.0
    mixup_epochs: NonNegativeInt | None = None
    sync_batch_norm: bool = False
    views: ViewConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    calibration_folds: int = Field(0, ge=0, le=100)
    pool: PoolConfig | None = None

    @model_validator(mode="after")
    def _check_pool(self) -> ClassifyConfig:
        if self.pool is not None and self.quantize:
            raise ValueError("pool with quantize; train with the pool first, then finetune with rounded weights")
        if self.pool is not None and self.views is None:
            raise ValueError("pool without views; the network must see other views than its teacher")
        if self.pool and self.pool.views and self.views and self.pool.views.slices != self.views.slices:
            raise ValueError("pool.views.slices: give the number in views.slices")
        return self


class MonitorConfig(Settings):
    """What is measured during training, see `neuromoco.train.monitor`; it does not change the weights.

    Attributes:
        trackers: trackers of Accelerate, such as [tensorboard], that get the metrics as `metrics.jsonl` does.
        samples: recordings on which spike rates and effective rank are measured after each epoch; 0 measures neither
            and draws no curves.
        knn_every: epochs between kNN accuracies in pre-training on class folders; 0 measures none.
        held_out_every: epochs between accuracies on the recordings of `held_out` in training with labels, which choose
            nothing; 0 measures none.
    """

    added: ClassVar[tuple[str, ...]] = ("held_out_every",)
    trackers: tuple[str, ...] = ()
    samples: NonNegativeInt = 256
    knn_every: NonNegativeInt = 10
    held_out_every: NonNegativeInt = 0


class HoldOutConfig(Settings):
    """Recordings of the training part that no stage uses, see `neuromoco.datasets.splits.hold_out`.

    Attributes:
        folds: parts that each class is divided into.
        fold: the part that is held out, from 0.
    """

    folds: int = Field(ge=2, lt=1 << 31)
    fold: NonNegativeInt

    @model_validator(mode="after")
    def _check_fold(self) -> HoldOutConfig:
        if self.fold >= self.folds:
            raise ValueError(f"held_out: fold {self.fold} of {self.folds}; the first is 0, the last {self.folds - 1}")
        return self


_OFF = BeforeValidator(lambda value: "off" if value is False else value)  # YAML reads off as False


class ComputeConfig(Settings):
    """How a run is computed; this changes results only by rounding.

    Attributes:
        precision: "off" is float32. "bf16" and "fp16" compute convolutions and products in 16 bits; weights,
            membranes and losses stay float32. "fp16" scales the loss and needs CUDA.
        recompute_blocks: recompute the encoder's blocks in the backward pass: less memory, a third more time.
        save_minutes: minutes between saved states within an epoch. The state is also saved after each epoch, at
            most every two seconds.
    """

    precision: Annotated[Literal["off", "bf16", "fp16"], _OFF] = "off"
    recompute_blocks: bool = False
    save_minutes: NonNegativeFloat = 10.0


class RunConfig(Settings):
    """One complete run.

    Attributes:
        stage: "pretrain" without labels, "finetune" a pre-trained encoder with labels, "supervised" from
            scratch with labels, or "all": pretrain, then finetune on the same recordings.
        data: a folder of recordings or the name of a data set (`neuromoco.datasets.named`); a list pre-trains on all.
        recordings: how its recordings are read and become samples.
        held_out: recordings that no stage uses, or None.
        init: the checkpoint that training starts from: a path, a name that ships, or hf://owner/name.
        init_from: whose names the tensors of `init` have, if those are weights of another project.
        own_frames: frames are those of `frames`, not those of `init`.
        seed: of weights, order, views and splits.
        frames: how recordings become frames.
        encoder: the network.
        pretrain: settings of that stage.
        finetune: settings of that stage.
        supervised: settings of that stage.
        compare: stage "all" also trains from scratch (`supervised`, with the labels of `finetune`) and fits a linear
            probe, and keeps the best of the three; false keeps the fine-tuned network untested.
        watch: what is measured during training.
        compute: precision, memory, and how often the state is saved.
    """

    stage: Literal["pretrain", "finetune", "supervised", "all"] = "all"
    added: ClassVar[tuple[str, ...]] = ("recordings", "own_frames", "init_from")
    data: str | tuple[str, ...] = "digits"
    recordings: RecordingsConfig = RecordingsConfig()
    held_out: HoldOutConfig | None = None
    init: str | None = None
    init_from: Literal["spikingjelly", "spikformer"] | None = None
    own_frames: bool = False
    seed: int = Field(0, ge=0, lt=2**32)
    frames: FrameConfig = FrameConfig()
    encoder: EncoderConfig = EncoderConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: ClassifyConfig = ClassifyConfig()
    supervised: ClassifyConfig = ClassifyConfig()
    compare: bool = True
    watch: MonitorConfig = MonitorConfig()
    compute: ComputeConfig = ComputeConfig()

    @property
    def labelled_data(self) -> str:
        """The one data set of a stage with labels."""
        assert isinstance(self.data, str)  # checked by _check_stages
        return self.data

    @model_validator(mode="after")
    def _check_stages(self) -> RunConfig:
        several = not isinstance(self.data, str)
        if several and self.stage != "pretrain":
            raise ValueError(
                f"data: several sets with stage {self.stage}, whose classes may differ; "
                "pretrain on all of them with --stage pretrain, then finetune on one"
            )
        if several and self.held_out is not None:
            raise ValueError("held_out: folds are made by class, and several sets have no common classes")
        if several and len(set(self.data)) < max(1, len(self.data)):
            raise ValueError("data: a list of one or more sets, each once")
        # Rounding starts from trained weights and changes all of them.
        stage = self.finetune if self.stage in ("finetune", "all") else self.supervised
        if not stage.quantize:
            return self
        if self.stage in ("supervised", "all"):
            raise ValueError(f"quantize with stage {self.stage}; train first, then finetune with it")
        if self.stage == "finetune" and stage.freeze_encoder:
            raise ValueError("quantize with a frozen encoder, which must not change; choose one of them")
        if stage.sync_batch_norm:
            raise ValueError("quantize with sync_batch_norm; rounded weights keep the statistics that they have")
        if self.compute.recompute_blocks:  # would recompute with unrounded weights
            raise ValueError("quantize with compute.recompute_blocks; set it to false")
        return self
