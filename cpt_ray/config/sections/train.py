"""The `models` and `train` sections: what is trained, on how many tokens, and on which schedule."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue

from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.config.sections.models.init import INIT, TrainTokenizerConfig
from cpt_ray.config.sections.schedule import ChainConfig, Rate, ScheduleConfig
from cpt_ray.config.sections.watch import GuardsConfig, WatchConfig
from cpt_ray.config.values import Count, Name, PathText, Seconds, Section


def parse_rows_per_pass(value: object) -> int | str:
    """Read a micro-batch: a whole number from 1, or `auto`.

    Raises:
        ValueError: If it is neither.
    """
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) < 1:
        raise ValueError("expected a number of rows of at least 1, or auto")
    return int(str(value))


RowsPerPass = Annotated[int | Literal["auto"], BeforeValidator(parse_rows_per_pass)]


class ModelConfig(Section):
    """A base model: a folder of safetensors, a hub name, a GGUF file, which is dequantized once, or `init`.

    `base: init` starts from random weights: `config` describes the model as transformers does, `init_seed` draws its weights
    with transformers' own initialization, and `tokenizer` or `train_tokenizer` gives it a tokenizer. It is one model per study:
    `study.seeds` vary the order of its data, not its weights.
    """

    name: Name = Field(description="short name, used in run names")
    base: PathText = Field(
        description="local folder of safetensors, hub name, path to a .gguf, or package://DISTRIBUTION/PATH of one; "
        "`check` proves a local one: whole, not quantized, known by content; `init`: random weights"
    )
    config: dict[str, JsonValue] | None = Field(
        default=None,
        description="`base: init`: `architecture`, such as llama, and the keys of its configuration in transformers; "
        "`vocab_size` is the tokenizer's unless given",
    )
    init_seed: int = Field(default=0, ge=0, description="`base: init`: seed of the random weights")
    revision: str | None = Field(default=None, description="hub revision; pin it to a commit")
    tokenizer: PathText | None = Field(
        default=None, description="tokenizer folder, hub name or package://DISTRIBUTION/PATH; default: the base's own"
    )
    train_tokenizer: TrainTokenizerConfig | None = Field(
        default=None, description="`base: init`: learn the tokenizer from the study's text"
    )
    new_tokens: tuple[str, ...] = Field(
        default=(),
        description="words to add to the vocabulary, one token each; a new embedding is the mean of the embeddings of its "
        "former tokens",
    )
    trust_remote_code: bool = Field(
        default=False, description="run Python code shipped with the model; read it first and pin `revision`"
    )
    separator: str | None = Field(
        default=None,
        description="separator token after every document, on which an export ends; "
        "default: the tokenizer's end of a sequence, which in a chat model ends a turn: `check` prints it",
    )
    bos: str | None = Field(
        default=None,
        description="BOS token before every document; default: the one that the tokenizer adds itself, if any; `none`: no "
        "token",
    )
    peak_learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="peak learning rate of the base's pretraining; the value of `train.learning_rate: base_peak`",
    )
    final_learning_rate: float | None = Field(
        default=None, gt=0, description="final learning rate of the base's pretraining; the value of `base_final`"
    )
    learning_rate_factor: float = Field(
        default=1.0,
        gt=0,
        description="factor applied to this model's peak learning rate, next to `train.learning_rate_factor`: small models "
        "take higher rates than large ones",
    )
    license: str | None = Field(default=None, description="license of the weights, recorded in the model card")
    note: str | None = Field(
        default=None, description="what readers must know about the base; shown in the report and the model card"
    )

    @property
    def is_new(self) -> bool:
        """Whether it starts from random weights."""
        return self.base == INIT

    @property
    def origin(self) -> str:
        """The base, as records name it."""
        return f"random weights ({self.config}, seed {self.init_seed})" if self.is_new else self.base


class TrainConfig(Section):
    """How runs are trained. All settings are shared by every arm."""

    budgets: tuple[Count, ...] | None = Field(
        default=None, min_length=1, description="token budgets (loss-bearing tokens), ascending; this or `budgets_flops`"
    )
    budgets_flops: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="budgets in training FLOPs, ascending; converted to tokens for each model"
    )
    budget_mode: Literal["branch", "chain", "independent"] = Field(
        default="branch",
        description="branch: one constant-rate trunk with a cooldown branch per budget; chain: each budget continues the "
        "previous one; independent: a separate run per budget",
    )
    chain: ChainConfig | None = Field(
        default=None,
        description="how the later stages of a chain start; required with `budget_mode: chain` and several budgets",
    )
    control_budgets: Literal["largest", "all"] = Field(
        default="largest", description="budgets at which control arms are trained; a chain always passes through all of them"
    )
    trajectory_tokens: tuple[Count, ...] = Field(
        default=(),
        description="token counts at which the constant-rate part is scored without cooldown; labeled not annealed, never "
        "budgets",
    )
    trajectory_points: int = Field(
        default=0,
        ge=0,
        le=32,
        description="instead of `trajectory_tokens`: number of log-spaced checkpoints to score, doubling, the last at the "
        "start of cooldown",
    )
    learning_rate: Rate = Field(
        description="peak learning rate: a number, `base_peak` or `base_final`; no default: see configs/README.md"
    )
    learning_rate_factor: float = Field(default=1.0, gt=0, description="factor applied to `learning_rate`")
    embedding_learning_rate_factor: float = Field(
        default=1.0,
        gt=0,
        description="factor applied to the learning rate of the token embeddings and the output head, tied or not; 0.1 to 0.5 "
        "is common where both are trained on a new domain",
    )
    schedule: ScheduleConfig = ScheduleConfig()
    optimizer: Literal["adamw", "adamw_8bit", "adafactor"] = Field(
        default="adamw",
        description="adamw: 8 bytes of moments per weight; adamw_8bit: 2 bytes, quantized in blocks by bitsandbytes, above "
        "ZeRO stage 0 with the same number of workers at every resume; adafactor: next to none (sums of squares over the rows "
        "and columns of a matrix, no momentum), its steps clipped to a root mean square of 1, with ZeRO stage 0 only",
    )
    weight_decay: float = Field(default=0.1, ge=0, description="decoupled weight decay, applied to weight matrices only")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW beta1")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW beta2")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW epsilon")
    gradient_clipping: float = Field(default=1.0, ge=0, description="maximum global gradient norm; 0 is off")
    global_batch_size: int = Field(ge=1, description="rows per optimizer step, summed over all workers")
    micro_batch_size: RowsPerPass = Field(
        default=1,
        description="rows per forward pass on each worker; changes memory and speed, not the result; auto: the largest "
        "divisor of a worker's rows that fits a GPU's memory, tried before the run; on a CPU up to 2048 tokens",
    )
    shuffle_window: Count | None = Field(
        default=None, ge=1, description="shuffle each source within windows of this many rows; null: over the whole source"
    )
    precision: Literal["bf16", "fp16", "fp32"] = Field(
        default="bf16",
        description="compute precision, with fp32 master weights; fp16 is for GPUs without bf16 and uses loss scaling",
    )
    export_precision: Literal["bf16", "fp32"] = Field(
        default="bf16", description="precision of exported weights; fp32 exports the master weights unchanged"
    )
    isolation: Literal["document", "none"] = Field(
        default="document",
        description="attention and position ids per document; `none` lets packed documents attend to each other, for "
        "replications only",
    )
    lora: LoraSection | None = Field(
        default=None, description="train LoRA adapters instead of all weights; null trains all weights"
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        description="patterns of parameter names, as transformers names them, whose weights stay the base's bit for bit: "
        "`model.embed_tokens.*`, `*.layers.[0-7].*`; `*`, `?` and `[...]` as in a shell",
    )
    gradient_checkpointing: bool = Field(default=False, description="recompute activations in the backward pass")
    compile: Literal["auto", True, False] = Field(
        default="auto",
        description="compile whole decoder layers with torch.compile; auto: on GPUs, if the isolation self-test passes on them",
    )
    compile_limit: Seconds = Field(
        default=300, ge=1, description="seconds that compiling may take; beyond it, the run trains with uncompiled layers"
    )
    fuse_projections: Literal["auto", True, False] = Field(
        default="auto",
        description="compute queries, keys and values as one product, and the two factors of a gated MLP; weights, exports and "
        "checkpoints stay as they are; auto: on a GPU; never under LoRA",
    )
    deepspeed: PathText = Field(
        description="path of the DeepSpeed JSON: from the working directory, else from the study file, else one "
        "that comes with cpt-ray (`ds_configs/zero2_bf16.json`)"
    )
    checkpoint_every: Count = Field(default=50_000_000, ge=1, description="interval between checkpoints, in tokens")
    keep_checkpoints: int = Field(
        default=2, ge=1, description="number of newest checkpoints kept per run, in addition to branch points"
    )
    guards: GuardsConfig = GuardsConfig()
    watch: WatchConfig = WatchConfig()
