"""The `sources`, `prepare` and `arms` sections: which text, what is done to it, which mixtures are trained on."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from cpt_ray.config.sections.clean import CleanConfig, TokenRulesConfig
from cpt_ray.config.values import Bytes, Count, Section

SourceFormat = Literal["jsonl", "json", "parquet", "csv", "text", "front_matter", "arrow"]


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class DatasetConfig(Section):
    """A split of a Hugging Face dataset: one of the hub at a pinned commit, or a folder."""

    name: str = Field(
        min_length=1, description="name on the hub, with `revision`; else a folder: what `save_to_disk` wrote, or data files"
    )
    config: str | None = Field(default=None, description="configuration (subset); null: the only or the default one")
    split: str = Field(default="train", description="split")
    revision: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{40}$", description="commit of the hub's repository, 40 digits: a branch can move"
    )


class SourceConfig(Section):
    """A named pile of text: either `path` and `format`, or `dataset`.

    A path is a glob on any fsspec filesystem (`/data/*.jsonl.gz`, `s3://bucket/*.parquet`), a member of an archive
    (`zip://news.csv::/data/news.zip`), or a file of an installed Python distribution (`package://DISTRIBUTION/PATH`). Files
    that end in `.gz`, `.zst`, `.bz2` or `.xz` are unpacked. A field is a column, a key of a JSON object, or a field of the
    header of `front_matter`. How much of a source is trained on is said by the arms.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="short name, used in reports and in arms")
    role: Literal["domain", "general"] = Field(description="whether its held-out part measures gain or forgetting")
    path: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(default=(), description="globs; see above")
    dataset: DatasetConfig | None = Field(default=None, description="a Hugging Face dataset in place of `path`")
    format: SourceFormat | None = Field(
        default=None,
        description="needed with `path`. `json`: a list of objects, or one object, per file; `text`: a document per file; "
        "`front_matter`: the same behind a YAML header between `---` lines; `arrow`: streams, as `save_to_disk` writes them",
    )
    text_field: str = Field(default="text", description="column or key that holds the text")
    id_field: str | None = Field(default=None, description="column or key that holds the id; default: content hash")
    language_field: str | None = Field(default=None, description="field with an ISO language code")
    default_language: str | None = Field(default=None, description="language where `language_field` says nothing")
    origin_field: str | None = Field(default=None, description="field that says where a document is from, such as its URL")
    date_field: str | None = Field(default=None, description="field with a document's date, kept as it is written")
    license_field: str | None = Field(default=None, description="field with a document's own license")
    license: str | None = Field(default=None, description="license of the text, recorded in the model card")
    limit_documents: Count | None = Field(default=None, ge=1, description="read at most so many documents, the first ones")
    on_bad_record: Literal["drop", "fail"] = Field(
        default="drop", description="a record that cannot be read is dropped and counted, or stops the run with its place"
    )
    max_bad_share: float = Field(
        default=0.05, ge=0, le=1, description="largest share of bad records in the source that `drop` puts up with"
    )

    @model_validator(mode="after")
    def _one_place(self) -> "SourceConfig":
        if bool(self.path) == (self.dataset is not None):
            seen = "both" if self.path else "neither"
            raise ValueError(f"source {self.name} has {seen} of path and dataset; give one of them")
        if self.path and self.format is None:
            raise ValueError(f"source {self.name} has a path but no format; give one of {', '.join(get_args(SourceFormat))}")
        return self


class NearDuplicateConfig(Section):
    """MinHash-LSH over word n-grams (Broder 1997).

    Documents meet if any band of rows is equal, and are duplicates if their signatures say that their similarity is at least
    (1/bands)^(1/rows), which `prepare` prints. Of duplicates, one of a `domain` source is kept before any other.
    """

    enabled: bool = Field(default=True, description="whether near-duplicates are removed")
    ngram_words: int = Field(default=5, ge=1, description="words per shingle")
    bands: int = Field(default=16, ge=1, description="bands of the signature")
    rows: int = Field(default=8, ge=1, description="rows per band; the threshold is (1/bands)^(1/rows)")
    scope: Literal["global", "source"] = Field(
        default="global", description="`source`: a document is compared with those of its own source only, exact copies too"
    )


class HeldOutConfig(Section):
    """Held-out sets: drawn once per study by near-duplicate component, before any arm."""

    share: float = Field(default=0.02, gt=0, lt=0.5, description="share of components held out, per source")
    validation_share: float = Field(default=0.5, ge=0, lt=1, description="share of these in the validation half")
    containment_ngram: int = Field(default=13, ge=2, description="words per n-gram of the containment rule")
    containment_share: float = Field(
        default=0.5, gt=0, le=1, description="drop a training document that holds this share of a held-out one's n-grams"
    )


class DecontaminateConfig(Section):
    """Removal of the items of the study's own exams from the training text."""

    enabled: bool = Field(default=True, description="whether training text is scanned for the items of `tasks`")
    tasks: tuple[str, ...] | None = Field(
        default=None,
        description="exams and lm-eval tasks to scan for; null: all that `evaluate` names. Another list is another "
        "corpus; what `evaluate` names beside it is looked for in the packed corpus, and stays in it",
    )
    ngram_words: int = Field(default=13, ge=3, description="words an exam item and a document must share in a row")
    min_match_ratio: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of a question or an answer that a run of equal words must cover; 0: any `ngram_words` will do",
    )
    action: Literal["drop", "redact"] = Field(
        default="drop", description="drop the document, or cut the matching words out of it"
    )


class PackConfig(Section):
    """How tokens become rows."""

    sequence_length: int = Field(default=2048, ge=8, description="tokens per row")
    strategy: Literal["best_fit", "concat"] = Field(
        default="best_fit", description="best_fit keeps documents whole (Ding et al. 2024); concat cuts at row ends"
    )


class PrepareConfig(Section):
    """From raw text to packed shards."""

    unit_bytes: Bytes = Field(default=64_000_000, ge=1000, description="text per unit of preparation and of packing")
    seed: int = Field(default=0, description="seed of the split, of the near-duplicate hashes and of row order")
    clean: CleanConfig = CleanConfig()
    near_duplicates: NearDuplicateConfig = NearDuplicateConfig()
    held_out: HeldOutConfig = HeldOutConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    token_rules: TokenRulesConfig = TokenRulesConfig()
    pack: PackConfig = PackConfig()


class SegmentConfig(Section):
    """A mixture that holds from a number of tokens on."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_tokens: Count = Field(alias="from", ge=1, description="tokens since the base from which `mix` holds, ascending")
    mix: dict[str, float] = Field(min_length=1, description="source name to weight; weights add up to 1")


class ArmConfig(Section):
    """A mixture of sources to train on, and how it changes on the way.

    Weights count rows. `mix` holds from the base on, `segments` are other mixtures later: each begins at the row at which its
    tokens are due by the manifest's mean tokens per row. The cooldown's mixture begins exactly where the learning rate begins
    to fall, and wins over every segment from there on.
    """

    role: Literal["domain", "control"] = Field(description="`control`: the equal-token arm on general text")
    mix: dict[str, float] = Field(min_length=1, description="source name to weight; weights add up to 1")
    segments: tuple[SegmentConfig, ...] = Field(default=(), description="other mixtures later on")
    cooldown_mix: dict[str, float] | None = Field(
        default=None, min_length=1, description="the mixture while the learning rate cools down; null: no change"
    )
    max_epochs: float = Field(default=1.0, gt=0, description="most passes over any source; above 1 allows repeats")
    max_epochs_of: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="most passes over single sources, by name, in place of `max_epochs`"
    )

    def mixes(self) -> dict[str, dict[str, float]]:
        """Every mixture by the key that it is written under."""
        later = {f"segments.{number}.mix": segment.mix for number, segment in enumerate(self.segments)}
        return {"mix": self.mix, **later, **({"cooldown_mix": self.cooldown_mix} if self.cooldown_mix else {})}
