"""The `classifiers` section: filters that give each document of a source the probability that it belongs to a domain."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from cpt_ray.config.values import Count, Name, PathText, Section, as_tuple

Names = Annotated[tuple[Name, ...], BeforeValidator(as_tuple)]


class ExamplesConfig(Section):
    """Documents of one class: of whole sources, or those with a label."""

    sources: Names = Field(min_length=1, description="sources of the study; lists of files are sources with `role: seed`")
    labels: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="only documents whose `label_field` has one of these values; empty: all documents"
    )


class FeaturesConfig(Section):
    """Features of the built-in model: which words, word sequences and character sequences occur in a document."""

    word_ngrams: int = Field(default=2, ge=1, le=4, description="longest sequence of words")
    character_ngrams: int = Field(default=4, ge=0, le=8, description="characters per character sequence; 0: none")
    bits: int = Field(default=20, ge=8, le=26, description="features are hashed into 2^bits columns")


class ClassifierConfig(Section):
    """A classifier, trained or loaded: by default a linear model on hashed n-grams of words and characters.

    It is trained, calibrated and tested on documents of `positive` and `negative`, none of which is in a held-out set or holds
    an exam item; a model that is loaded is calibrated and tested on them. A derived source names it in `where`.
    """

    name: Name = Field(description="name, used in `where`, file names and the report")
    positive: ExamplesConfig = Field(description="examples of the domain")
    negative: ExamplesConfig = Field(description="examples of everything else")
    model: Literal["ngrams", "fasttext", "sklearn", "transformers", "encoder"] = Field(
        default="ngrams",
        description="`ngrams`: trained here; `encoder`: a linear model trained here on the mean hidden state of a Hugging Face "
        "encoder; loaded as they are: `fasttext`, a fastText file; `sklearn`, a pipeline saved by skops; `transformers`, a "
        "Hugging Face sequence classifier",
    )
    path: PathText | None = Field(default=None, description="file or folder of a model that is loaded")
    label: str | None = Field(
        default=None,
        description="label of the domain in a model that is loaded, such as `__label__legal`; null: its last one",
    )
    features: FeaturesConfig = Field(default=FeaturesConfig(), description="features of `model: ngrams`")
    max_documents: Count = Field(
        default=50_000, ge=40, description="maximum documents of each class to train and test on, a seeded sample"
    )
    epochs: int = Field(default=5, ge=1, le=100, description="passes over the training documents, for models trained here")
    regularization: float = Field(
        default=0.1,
        gt=0,
        description="weight of half the squared norm of the coefficients against the sum of the losses of all examples, for "
        "models trained here: the inverse of scikit-learn's C",
    )

    @model_validator(mode="after")
    def _complete(self) -> "ClassifierConfig":
        if self.model == "ngrams" and self.path is not None:
            raise ValueError(
                f"classifier {self.name} has path {self.path}, but model ngrams is trained here; leave path out, or set model "
                "to the kind of model that it holds"
            )
        if self.model != "ngrams" and self.path is None:
            raise ValueError(f"classifier {self.name} has model {self.model}, which is loaded; give its path")
        if self.model == "sklearn" and not str(self.path).endswith(".skops"):
            raise ValueError(
                f"classifier {self.name}: {self.path} is not a .skops file, and a pickle can run any code when it is loaded; "
                "save the pipeline with skops.io.dump(pipeline, 'model.skops')"
            )
        overlap = sorted({*self.positive.sources} & {*self.negative.sources})
        if overlap and set(self.positive.labels) == set(self.negative.labels):
            raise ValueError(
                f"classifier {self.name} has one class: source {overlap[0]} is positive and negative; name other sources, or "
                "give labels"
            )
        return self
