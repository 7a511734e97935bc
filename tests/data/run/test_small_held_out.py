"""What becomes of little held-out text: of a source too small for a test set, and of documents of a few words."""

import json
import logging
import re

import pytest

from cpt_ray.errors import DataError
from tests.data.conftest import EXAM, LEAK, sentence
from tests.data.filter.in_process import World, rows, source

OF_OTHERS = "prepare.held_out.share is 1e-09, and prepare.held_out.validation_share is 0.5"
OF_A_PROBE = "a probe is held out whole, and prepare.held_out.validation_share is 0.999"


def world(folder, role, documents, **held_out):
    """A web and another source, of which nothing would be for a test set."""
    folder.mkdir()
    sources = [source(folder, "web", "general", rows("news", 30, name="web"))]
    if role == "probe":
        sources.append(source(folder, "essays", "probe", rows("law", documents, name="essay")))
        held_out["validation_share"] = 0.999
    else:
        sources[0] = source(folder, "web", role, rows("news", documents, name="web"))
        held_out["share"] = 1e-9
    return World.of(folder, sources, held_out=held_out)


@pytest.mark.parametrize(("role", "settings"), [("general", OF_OTHERS), ("probe", OF_A_PROBE)])
def test_the_warning_names_the_settings_that_decide(tmp_path, caplog, role, settings):
    with caplog.at_level(logging.WARNING):
        world(tmp_path / "some", role, 12)
    name = "essays" if role == "probe" else "web"
    assert f"source {name}: {settings}, which of its 12 documents gives no test set; " in caplog.text
    assert "more near-duplicate components are for the test set" in caplog.text


@pytest.mark.parametrize(
    ("role", "settings", "change"),
    [
        ("general", OF_OTHERS, "raise prepare.held_out.share"),
        ("probe", OF_A_PROBE, "lower prepare.held_out.validation_share"),
    ],
)
def test_the_refusal_names_the_setting_that_helps(tmp_path, role, settings, change):
    with pytest.raises(DataError, match="the test set has 0 of 1 documents") as error:
        world(tmp_path / "one", role, 1)
    assert error.value.problem.endswith(settings)
    assert error.value.fix == f"add documents to this source, or {change}"


def chat(folder):
    """A hundred turns of one word, and as many of ten sentences, each of which ends in one of these words."""
    words = sentence(100, seed="words").split()
    turns = [
        " ".join(f"{sentence(12, seed=(turn, place))} {words[(turn * 7 + place * 9) % 100]}" for place in range(10))
        for turn in range(100)
    ]
    lines = [{"id": f"turn_{number}", "text": text} for number, text in enumerate([*words, *turns])]
    return World.of(folder, [source(folder, "chat", "domain", lines)], clean={"min_bytes": None, "rules": []})


def test_held_out_words_do_not_take_the_documents_that_contain_them(tmp_path, tokenizer_folder, caplog):
    made = chat(tmp_path)
    held = [json.loads(line)["text"] for line in (tmp_path / "held_out" / "chat-test.jsonl").read_text().splitlines()]
    assert sum(" " not in text for text in held) > 3
    with caplog.at_level(logging.WARNING):
        manifest = made.pack(tokenizer_folder).record
    (report,) = (one for one in manifest.reports if one.stage == "held_out")
    assert report.dropped.keys() == {"held_out"}
    assert report.kept.documents > 150
    assert "of its bytes" not in caplog.text


def test_a_rule_of_packing_that_takes_most_of_a_source_is_a_warning(tmp_path, tokenizer_folder, caplog):
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps(EXAM) + "\n")
    turns = [{"id": f"leak_{number}", "text": f"{sentence(60, seed=number)} {LEAK}"} for number in range(60)]
    turns += [{"id": f"clean_{number}", "text": sentence(60, seed=f"clean_{number}")} for number in range(20)]
    made = World.of(tmp_path, [source(tmp_path, "chat", "domain", turns)])
    with caplog.at_level(logging.WARNING):
        made.pack(tokenizer_folder, items)
    (said,) = (record.getMessage() for record in caplog.records if "of its bytes" in record.getMessage())
    assert re.fullmatch(
        r"source chat: exam_item took \d\d% of its bytes \(\d+ documents, 0\.0 MB\); to change that, "
        "set prepare.decontaminate.action to redact, or leave source chat out",
        said,
    )
