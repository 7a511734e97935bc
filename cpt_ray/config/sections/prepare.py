"""The `sources`, `prepare` and `arms` sections: which text, how it is prepared, and which mixtures are trained on."""

import codecs
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cpt_ray.config.sections.clean import CleanConfig, TokenRulesConfig
from cpt_ray.config.sections.derived import Condition, QualityMatchedConfig, SampleConfig, parse_where
from cpt_ray.config.values import Bytes, Count, Name, PathText, Section, TaskName, as_tuple
from cpt_ray.records import SourceRole

SourceFormat = Literal["jsonl", "json", "parquet", "csv", "text", "html", "front_matter", "arrow", "auto"]


class DatasetConfig(Section):
    """A split of a Hugging Face dataset, from the hub at a pinned commit or from a local folder."""

    name: PathText = Field(
        min_length=1,
        description="name on the hub (requires `revision`), or a local folder: the output of `save_to_disk`, or data files",
    )
    config: str | None = Field(default=None, description="configuration (subset); null: the only one, or the default")
    split: str = Field(default="train", description="split of the dataset")
    revision: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{40}$",
        description="commit hash of the hub repository, 40 hex digits; branches are refused because they move",
    )


class SourceConfig(Section):
    """A named collection of text: `path` or `dataset`, or `from` another source.

    A path is a file, a folder, a glob (`/data/*.jsonl.gz`, `s3://bucket/*.parquet`), a URL (`https://...`), a member of an
    archive (`zip://news.csv::/data/news.zip`), or a file of an installed Python distribution (`package://DISTRIBUTION/PATH`);
    a name that exists as it stands wins over its reading as a glob. gzip, zstd, bz2 and xz are decompressed; tar and zip
    archives are read by member. A field is a column, a key of a JSON object, a part of either (`meta.lang`), a partition of
    the path (`lang=de/part-0.parquet`), or a field of the `front_matter` header. The arms decide how much of a source is
    trained on.

    A derived source takes documents `from` another one, its parent: those with scores (`where`), or a random draw (`sample`,
    `quality_matched`). It shares the parent's clean documents and held-out sets, and has no keys but its name and these.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    name: Name = Field(description="short name, used in reports and arms")
    role: Literal["domain", "general", "probe", "seed", "derived"] = Field(
        description="what its text is for: `domain`, `general`: arms train on it, and its held-out set measures gain or what "
        "general text lost; `probe`: no arm may train on it, it is held out, up to `held_out.max_documents`, and measures "
        "forgetting; `seed`: examples for `classifiers`, trained on by no arm. `derived` is what a source with `from` is, and "
        "need not be written"
    )
    path: Annotated[tuple[PathText, ...], BeforeValidator(as_tuple)] = Field(default=(), description="globs; see above")
    dataset: DatasetConfig | None = Field(default=None, description="a Hugging Face dataset instead of `path`")
    format: SourceFormat | None = Field(
        default=None,
        description="null or `auto`: by the extension of each file; what has no known one is left out, by kind. `json`: one "
        "object or a list of objects per file; `csv`: the delimiter (comma, semicolon, tab, bar) is found; `text`, `html`: one "
        "document per file, of a web page its main text; `front_matter`: one document per file, after a YAML header between "
        "`---` lines; `arrow`: streams and files, such as `save_to_disk` writes",
    )
    encoding: str = Field(
        default="utf-8",
        description="encoding of text files; `auto`: UTF-8 where a file is UTF-8, else detected from its content and counted. "
        "UTF-16 and UTF-32 with a byte-order mark are always read",
    )
    long_text: Literal["split", "drop"] = Field(
        default="split",
        description="what becomes of a file of format `text`, `html` or `front_matter` above `prepare.clean.max_bytes`: "
        "`split` it at paragraph borders into documents of their own, or let cleaning `drop` it",
    )
    text_field: str = Field(default="text", description="field with the text")
    id_field: str | None = Field(
        default=None, description="field with the id, a label that may repeat; default: hash of the content"
    )
    language_field: str | None = Field(default=None, description="field with an ISO language code; may be dotted")
    default_language: str | None = Field(
        default=None, description="language of documents whose `language_field` is empty or not set"
    )
    origin_field: str | None = Field(default=None, description="field with a document's origin, such as its URL")
    date_field: str | None = Field(default=None, description="field with a document's date, stored verbatim")
    license_field: str | None = Field(default=None, description="field with the license of each document")
    label_field: str | None = Field(
        default=None, description="field with a label, such as a topic, by which `classifiers` choose their examples"
    )
    license: str | None = Field(default=None, description="license of the text, recorded in the model card")
    limit_documents: Count | None = Field(default=None, ge=1, description="read only the first N documents")
    on_bad_record: Literal["drop", "fail"] = Field(
        default="drop",
        description="what to do with an unreadable record: drop and count it, or stop with an error that names file and line",
    )
    max_bad_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="maximum fraction of bad records in the source with `on_bad_record: drop`; above it the run stops",
    )
    parent: Name | None = Field(
        default=None, alias="from", description="the source whose documents a derived source takes, itself derived or not"
    )
    where: str | None = Field(
        default=None,
        description="keep the parent's documents whose score meets this condition, such as `legal >= 0.8`, `legal` being one "
        "of `classifiers`; several are joined by `and`",
    )
    sample: SampleConfig | None = Field(
        default=None, description="draw documents of the parent at random, as many tokens as the source named by `like`"
    )
    quality_matched: QualityMatchedConfig | None = Field(
        default=None,
        description="draw documents of the parent at random, such that tokens and the distribution of the score named by `by` "
        "are those of the source named by `like`: a filter by topic without its side effect on quality",
    )

    @model_validator(mode="before")
    @classmethod
    def _derived_role(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("from") is not None and "role" not in value:
            return {**value, "role": "derived"}
        return value

    @property
    def held_out_role(self) -> SourceRole | None:
        """What its held-out set measures; None if it has no set of its own."""
        return self.role if self.role in ("domain", "general", "probe") else None

    @property
    def is_packed(self) -> bool:
        """Whether its documents become rows that arms can draw."""
        return self.role not in ("probe", "seed")

    @model_validator(mode="after")
    def _one_place(self) -> "SourceConfig":
        if self.parent is not None:
            return self._only_derived()
        if self.role == "derived" or self.rules:
            raise ValueError(
                f"source {self.name} has {'role derived' if self.role == 'derived' else self.rules[0]}, but no from"
            )
        if bool(self.path) == (self.dataset is not None):
            seen = "both" if self.path else "neither"
            raise ValueError(f"source {self.name} has {seen} of path and dataset; give one of them")
        if "" in self.path:
            raise ValueError(f"source {self.name} has an empty path; give a file, a folder, a glob or a URL")
        return self

    def _only_derived(self) -> "SourceConfig":
        """Refuse keys that say how text is read: a derived source has its parent's text."""
        if self.role != "derived":
            raise ValueError(f"source {self.name} is from {self.parent} and has that source's role; leave role {self.role} out")
        allowed = {"name", "role", "parent", "where", "sample", "quality_matched"}
        for name, field in type(self).model_fields.items():
            if name not in allowed and getattr(self, name) != field.default:
                raise ValueError(
                    f"source {self.name} is from {self.parent} and has that source's text; leave {name} out, or leave out from"
                )
        if len(self.rules) != 1:
            seen = " and ".join(self.rules) or "none of them"
            raise ValueError(
                f"source {self.name} is from {self.parent}; give one of where, sample and quality_matched, saw {seen}"
            )
        return self

    @field_validator("where")
    @classmethod
    def _parseable(cls, value: str | None) -> str | None:
        if value is not None:
            parse_where(value)
        return value

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of `where`."""
        return () if self.where is None else parse_where(self.where)

    @property
    def rules(self) -> tuple[str, ...]:
        """The keys given that choose documents; a derived source has one."""
        return tuple(name for name in ("where", "sample", "quality_matched") if getattr(self, name) is not None)

    @property
    def rule(self) -> str:
        """How a derived source chooses its documents, in words."""
        by = "" if self.quality_matched is None else f", by {self.quality_matched.by}"
        return self.where or f"{''.join(self.rules)} like {self.like}{by}"

    @property
    def like(self) -> str | None:
        """The derived source that a random draw is made like."""
        drawn = self.sample or self.quality_matched
        return None if drawn is None else drawn.like

    @property
    def scored_by(self) -> tuple[str, ...]:
        """The classifiers whose scores choose documents."""
        by = () if self.quality_matched is None else (self.quality_matched.by,)
        return (*dict.fromkeys(condition.classifier for condition in self.conditions), *by)

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        if value == "auto":
            return value
        try:
            found = codecs.lookup(value)
        except (LookupError, ValueError):
            raise ValueError(
                f"encoding {value!r} is not known; give auto, utf-8, latin-1, cp1252, utf-16, gb18030, ..."
            ) from None
        if not found._is_text_encoding:
            raise ValueError(f"encoding {value!r} is not an encoding of text; give auto, utf-8, latin-1, ...")
        return found.name


class NearDuplicateConfig(Section):
    """MinHash-LSH over word n-grams (Broder 1997).

    Two documents become a candidate pair if any band of their signatures is equal, and are near-duplicates if the similarity
    estimated from the signatures is at least (1/bands)^(1/rows), which `prepare` prints. Of each component of duplicates one
    document is kept, from a `domain` source first.
    """

    enabled: bool = Field(default=True, description="remove near-duplicates; exact copies are always removed")
    ngram_words: int = Field(default=5, ge=1, description="words per shingle")
    bands: int = Field(default=16, ge=1, description="bands of the signature")
    rows: int = Field(default=8, ge=1, description="rows per band; the threshold is (1/bands)^(1/rows)")
    scope: Literal["global", "source"] = Field(
        default="global",
        description="`global`: compare across all sources; `source`: only within each source, exact copies included",
    )


class HeldOutConfig(Section):
    """Held-out sets: sampled once per study by near-duplicate component, before any arm is drawn."""

    share: float = Field(default=0.02, gt=0, lt=0.5, description="share of near-duplicate components held out, per source")
    max_documents: int = Field(
        default=5000,
        ge=20,
        description="of a source so large that its share would be more, about so many documents are held out, in both halves "
        "together: `evaluate.held_out_documents` of them are scored, and the n-grams of all are in the memory of every node",
    )
    validation_share: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="share of the held-out components that go to the validation half; the rest is the test half",
    )
    containment_ngram: int = Field(default=13, ge=2, description="words per n-gram for containment")
    containment_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="drop a training document that contains at least this share of the n-grams of one held-out document",
    )


class DecontaminateConfig(Section):
    """Decontamination: removal of the study's own exam items from the training text."""

    enabled: bool = Field(default=True, description="scan training text for the items of `tasks`")
    tasks: tuple[TaskName, ...] | None = Field(
        default=None,
        description="exams and lm-eval tasks to scan for; null: all that `evaluate` names. Another list makes another "
        "corpus. Tasks that `evaluate` names but this list does not are searched for in the packed corpus and "
        "reported, not removed",
    )
    ngram_words: int = Field(
        default=13, ge=3, description="number of consecutive words that an exam item and a document must share"
    )
    min_match_ratio: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="minimum share of the question or the answer that a run of matching words must cover; 0: any "
        "`ngram_words` words are a match",
    )
    action: Literal["drop", "redact"] = Field(
        default="drop", description="drop the document, or remove only the matching words"
    )


class PackConfig(Section):
    """How documents are packed into rows."""

    sequence_length: int = Field(default=2048, ge=8, description="tokens per row, the training sequence length")
    strategy: Literal["best_fit", "concat"] = Field(
        default="best_fit",
        description="best_fit: best-fit-decreasing packing, splits only documents longer than a row (Ding et al. 2024); "
        "concat: concatenate and split at row ends",
    )


class PrepareConfig(Section):
    """From raw text to packed shards."""

    unit_bytes: Bytes = Field(
        default=64_000_000,
        ge=1000,
        description="bytes of text per unit, the piece of a source that one task prepares and packs",
    )
    seed: int = Field(
        default=0, description="seed of the held-out split, the MinHash functions and the order of rows in a shard"
    )
    keep_dropped: bool = Field(
        default=False,
        description="write every dropped document with its reason to `dropped/*/*.parquet` next to the kept ones; changes "
        "nothing that is kept, and takes effect when text is prepared, not for artifacts that exist already",
    )
    clean: CleanConfig = CleanConfig()
    near_duplicates: NearDuplicateConfig = NearDuplicateConfig()
    held_out: HeldOutConfig = HeldOutConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    token_rules: TokenRulesConfig = TokenRulesConfig()
    pack: PackConfig = PackConfig()


class SegmentConfig(Section):
    """A mixture that applies from a given token count onward."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_tokens: Count = Field(
        alias="from", ge=1, description="tokens since the base at which `mix` takes effect; ascending over the list"
    )
    mix: dict[str, float] = Field(min_length=1, description="source name to weight; weights add up to 1")


class ArmConfig(Section):
    """A mixture of sources to train on, and how it changes during training.

    Weights are shares of rows. `mix` applies from the start; each of `segments` replaces it later, at the row where its token
    count is reached according to the manifest's mean tokens per row. The cooldown mixture starts exactly where the learning
    rate starts to fall, and takes precedence over segments from then on.
    """

    role: Literal["domain", "control", "general"] = Field(
        description="`domain`: the arm under study; `control`: the equal-token arm on general text; `general`: training on "
        "general text for its own sake, such as that of a base from random weights"
    )
    mix: dict[str, float] = Field(min_length=1, description="source name to weight; weights add up to 1")
    segments: tuple[SegmentConfig, ...] = Field(default=(), description="mixtures that replace `mix` later in training")
    cooldown_mix: dict[str, float] | None = Field(
        default=None, min_length=1, description="mixture during the cooldown of the learning rate; null: no change"
    )
    max_epochs: float = Field(default=1.0, gt=0, description="maximum epochs over any source; above 1 allows repeats")
    max_epochs_of: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="maximum epochs over individual sources, by name; overrides `max_epochs`"
    )

    def mixes(self) -> dict[str, dict[str, float]]:
        """Every mixture of the arm, by its key."""
        later = {f"segments.{number}.mix": segment.mix for number, segment in enumerate(self.segments)}
        return {"mix": self.mix, **later, **({"cooldown_mix": self.cooldown_mix} if self.cooldown_mix else {})}
