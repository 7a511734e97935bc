import pytest

from cpt_ray.data.clean import Cleaned, clean
from cpt_ray.data.clean.language import identify
from cpt_ray.records import Document
from tests.data.clean.judged import config, judge

ENGLISH = "The court held that the license may be revoked where its conditions were not met by the licensee. "
GERMAN = "Das Gericht entschied, dass die Lizenz widerrufen werden kann, wenn ihre Bedingungen nicht erfüllt sind. "
FRENCH = "Le tribunal a jugé que la licence peut être révoquée lorsque ses conditions ne sont pas remplies. "


@pytest.mark.parametrize(
    ("code", "text"), [("en", ENGLISH), ("de", GERMAN), ("fr", FRENCH), ("zh", "法院认为许可证可以被撤销。" * 5)]
)
def test_languages_are_told_apart(code: str, text: str) -> None:
    found, probability = identify(text * 5, 2000)
    assert found == code
    assert probability > 0.5


def test_the_middle_of_a_document_decides() -> None:
    assert identify(GERMAN + ENGLISH * 30 + GERMAN, 500)[0] == "en"


def test_a_detected_language_is_recorded_and_judged() -> None:
    settings = config(languages=("en",), language_id={"detect": "missing"})
    assert judge(GERMAN * 3, settings) == "language"
    result = clean(Document("d", ENGLISH * 3, "law"), settings)
    assert isinstance(result, Cleaned)
    assert result.document.language == "en"


def test_the_word_of_the_source_counts_unless_it_is_never_trusted() -> None:
    missing = config(languages=("en",), language_id={"detect": "missing"})
    always = config(languages=("en",), language_id={"detect": "always"})
    assert judge(GERMAN * 3, missing, "en") is None
    assert judge(GERMAN * 3, always, "en") == "language"
    assert judge(GERMAN * 3, config(languages=("en",))) is None


def test_a_wanted_language_must_be_probable_enough() -> None:
    _, probability = identify(ENGLISH, 2000)
    at = {"detect": "always", "min_probability": probability}
    beyond = {"detect": "always", "min_probability": min(1.0, probability + 1e-9)}
    assert judge(ENGLISH, config(languages=("en",), language_id=at)) is None
    assert judge(ENGLISH, config(languages=("en",), language_id=beyond)) == "language_uncertain"
    assert judge(ENGLISH, config(language_id=beyond)) is None  # no language is required, so none is refused
