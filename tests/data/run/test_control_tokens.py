"""Documents in which a control token is left, whatever is done, are dropped; ids that no text produces need no embedding."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cpt_ray.data.rows.tokenize import Encoder, ModelTokenizer, control_ids, control_spellings, resolve_tokenizer
from cpt_ray.data.run.training_tasks import CONTROL_REASON, _refuse_control
from cpt_ray.errors import DataError
from cpt_ray.records import TextTokens
from tests.evaluate.tiny import SEPARATOR, build_tokenizer

pytestmark = pytest.mark.accept(inputs=1)


@pytest.mark.parametrize("before", [0, 1])
def test_only_documents_with_a_control_token_inside_are_dropped(before):
    start = [9] * before
    documents = [[*start, 1, 2, 9], [*start, 9, 2, 9], [*start, 9], [*start, 3, 9, 9], [*start, 4, 9]]
    tokens = np.array([token for document in documents for token in document])
    lengths = np.array([len(document) for document in documents])
    found = _refuse_control([None] * 4 + ["other"], tokens, lengths, np.array([9]), before=before)
    assert found == [None, CONTROL_REASON, None, CONTROL_REASON, "other"]


def test_undeclared_control_tokens_are_spelled_out_and_counted_and_need_no_embedding(tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["<|im_start|>", "usufruct"])
    tokenizer.save_pretrained(tmp_path)
    model = ModelTokenizer(tmp_path, TextTokens(separator=SEPARATOR, bos=None), 402, control=("<|im_start|>",))
    found = resolve_tokenizer(model)
    definition = json.loads(found.definition)
    assert control_ids(definition) == {0, 400}
    text = f"a usufruct<|im_start|>b{SEPARATOR}"
    assert control_spellings(definition).findall(text) == ["<|im_start|>", SEPARATOR]
    (tmp_path / "written.json").write_text(found.definition)
    ids, _ = Encoder.load(tmp_path / "written.json", separator_id=0, bos_id=None, dtype="uint16").encode([text])
    assert ids.tolist().count(0) == 1  # the separator after the document
    assert 400 not in ids
    assert 401 in ids
    with pytest.raises(DataError, match="ids up to 401, but the model's vocabulary is 401"):
        resolve_tokenizer(ModelTokenizer(tmp_path, model.tokens, 401, control=("<|im_start|>",)))
