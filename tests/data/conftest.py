"""Generated corpora and a tokenizer; ids state the role of each document."""

import json
import random
from pathlib import Path

import pytest

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from tests.evaluate.tiny import build_tokenizer

SEPARATOR = "<|end|>"
VOCABULARY = 512
QUESTION = "Which ancient instrument did the sailors of the northern harbour use to measure the height of stars at night"
EXAM = {"task": "astronomy", "id": "q1", "question": QUESTION + "?", "choices": ["the sundial", "the astrolabe"], "answer": 1}
LEAK = "which ANCIENT instrument, did the sailors -- of the Northern harbour use to\nmeasure: the height of stars at night"


def sentence(words: int, *, seed: object) -> str:
    """Readable nonsense without repeats: `words` words of three syllables each, from a seeded generator."""
    draw = random.Random(str(seed))
    syllables = ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "ve"]
    return " ".join("".join(draw.choices(syllables, k=3)) for _ in range(words))


def document(name: str, words: int = 80) -> str:
    """The text of the document with that name, in a few lines."""
    return "\n".join(sentence(words // 4, seed=(name, line)) for line in range(4))


LONG = document("a long one that falls into training", 2000)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real byte-level BPE of 512 tokens in a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [document(f"train_{number}") for number in range(50)]
    build_tokenizer(texts, vocabulary=VOCABULARY, separator=SEPARATOR).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources as JSON lines, with planted duplicates, a planted exam leak and bad input."""
    folder = tmp_path_factory.mktemp("corpus")
    law = [{"id": f"law_{number}", "text": document(f"law_{number}")} for number in range(120)]
    law += [
        {"id": "long_1", "text": LONG},
        {"id": "near_dup_of_law_3", "text": document("law_3") + " extra"},
        {"id": "exact_dup_of_law_4", "text": document("law_4").upper()},
        {"id": "leaks_exam_q1", "text": f"{document('leak')}\n{LEAK}\n{document('after')}"},
        {"id": "short_1", "text": "too short"},
        {"id": "blank_1", "text": " \n "},
        {"id": "mojibake_1", "text": document("moji") + " cafÃ© \x07 control"},
    ]
    lines = [json.dumps(row).encode() for row in law]
    lines[10:10] = [b"{not json", b'{"id": "x", "text": "\xff\xfe"}']
    (folder / "law.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    news = [{"id": f"news_{number}", "text": document(f"news_{number}")} for number in range(80)]
    news.append({"id": "copy_of_law_5", "text": document("law_5")})
    (folder / "news.jsonl").write_text("".join(json.dumps(row) + "\n" for row in news))
    (folder / "exams.jsonl").write_text(json.dumps(EXAM) + "\n")
    return folder


def sources_of(corpus: Path) -> list[SourceConfig]:
    """General before domain, so that the kept copy is chosen by role, not by order."""
    return [
        SourceConfig(name="news", role="general", path=str(corpus / "news.jsonl"), format="jsonl", id_field="id"),
        SourceConfig(name="law", role="domain", path=str(corpus / "law.jsonl"), format="jsonl", id_field="id"),
    ]


def settings(**changes: object) -> PrepareConfig:
    """Settings under which the corpus yields several units."""
    return PrepareConfig.model_validate(
        {"unit_bytes": 15_000, "held_out": {"share": 0.15}, "pack": {"sequence_length": 128}, **changes}
    )
