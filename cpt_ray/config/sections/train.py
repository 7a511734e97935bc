"""The `models` and `train` sections: what is trained, on how many tokens, with which schedule."""

from typing import Literal

from pydantic import Field

from cpt_ray.config.sections.adapter import LoraSection
from cpt_ray.config.sections.schedule import ChainConfig, Rate, ScheduleConfig
from cpt_ray.config.sections.watch import GuardsConfig, WatchConfig
from cpt_ray.config.values import Count, Section


class ModelConfig(Section):
    """A base model: a folder of safetensors, a hub name, or a GGUF file that is dequantized once."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="short name, used in run names")
    base: str = Field(description="local folder, hub name, path to a .gguf, or package://DISTRIBUTION/PATH of one")
    revision: str | None = Field(default=None, description="hub revision; pin it")
    tokenizer: str | None = Field(default=None, description="tokenizer folder or hub name; default: the base's own")
    new_tokens: tuple[str, ...] = Field(
        default=(),
        description="words that become one token each; a new row is the mean of the rows of the pieces it had before",
    )
    trust_remote_code: bool = Field(
        default=False, description="run Python code that comes with the model; read it first and pin `revision`"
    )
    separator: str | None = Field(
        default=None, description="token written after every document; default: the tokenizer's end-of-text token"
    )
    bos: str | None = Field(
        default=None,
        description="token written before every document; default: what the tokenizer itself puts before a text, if anything; "
        "`none`: no token",
    )
    peak_learning_rate: float | None = Field(
        default=None, gt=0, description="peak rate of the base's own pretraining; what `train.learning_rate: base_peak` means"
    )
    final_learning_rate: float | None = Field(
        default=None, gt=0, description="rate at which the base's pretraining ended; what `base_final` means"
    )
    license: str | None = Field(default=None, description="license of the weights, recorded in the model card")
    note: str | None = Field(default=None, description="what a reader must know about the base; shown in report and model card")


class TrainConfig(Section):
    """How runs are trained. Everything here is the same for every arm."""

    budgets: tuple[Count, ...] | None = Field(
        default=None, min_length=1, description="token budgets (loss-bearing tokens), ascending; this or `budgets_flops`"
    )
    budgets_flops: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="budgets in training FLOPs, ascending: each model gets the tokens they pay for"
    )
    budget_mode: Literal["branch", "chain", "independent"] = Field(
        default="branch",
        description="branch: one constant-rate trunk, a cooldown per budget; chain: each budget continues the one before; "
        "independent: a run each",
    )
    chain: ChainConfig | None = Field(default=None, description="how a later stage of a chain starts")
    control_budgets: Literal["largest", "all"] = Field(
        default="largest", description="budgets at which control arms are trained; a chain has all of them on its way"
    )
    trajectory_tokens: tuple[Count, ...] = Field(
        default=(), description="marks at which the constant-rate part is scored as it stands: not annealed, never budgets"
    )
    trajectory_points: int = Field(
        default=0, ge=0, le=32, description="instead: so many marks, each twice the one before, the last where cooldown begins"
    )
    learning_rate: Rate = Field(
        description="peak learning rate: a number, `base_peak` or `base_final`; no default: see configs/README.md"
    )
    learning_rate_factor: float = Field(default=1.0, gt=0, description="what `learning_rate` is multiplied by")
    schedule: ScheduleConfig = ScheduleConfig()
    weight_decay: float = Field(default=0.1, ge=0, description="AdamW weight decay, on matrices only")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW beta1")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW beta2")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW epsilon")
    gradient_clipping: float = Field(default=1.0, ge=0, description="largest global gradient norm; 0 is off")
    global_batch_size: int = Field(ge=1, description="rows per optimizer step, over all workers")
    micro_batch_size: int = Field(default=1, ge=1, description="rows per forward pass of one worker")
    shuffle_window: Count | None = Field(
        default=None, ge=1, description="rows; a source's are shuffled within; null: all of them"
    )
    precision: Literal["bf16", "fp16", "fp32"] = Field(
        default="bf16", description="compute type; master weights are fp32; fp16 is for GPUs without bf16 and scales the loss"
    )
    export_precision: Literal["bf16", "fp32"] = Field(
        default="bf16", description="type of exported weights; fp32 is the master weights as they are"
    )
    isolation: Literal["document", "none"] = Field(
        default="document", description="`none` lets packed documents see each other, for replications only"
    )
    lora: LoraSection | None = Field(default=None, description="train adapters instead of all weights; null trains all")
    gradient_checkpointing: bool = Field(default=False, description="recompute activations in the backward pass")
    compile: bool = Field(default=False, description="compile the parts of each layer that stand beside attention")
    deepspeed: str = Field(description="path of the DeepSpeed JSON, relative to the study file or the working directory")
    checkpoint_every: Count = Field(default=50_000_000, ge=1, description="tokens between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints kept per run, beside branch points")
    guards: GuardsConfig = GuardsConfig()
    watch: WatchConfig = WatchConfig()
