"""Decoded rows: the text between two borders is the document's."""

from __future__ import annotations

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.study import store
from cpt_ray.study.inspect.rows import decode_rows
from cpt_ray.study.stages.shards import SHARDS
from tests.integration.tiny_study import SEQUENCE_LENGTH, document
from tests.study.planned import graph_of

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def shards(prepared_study):
    return store.made(graph_of(prepared_study).one(SHARDS))


@pytest.mark.parametrize("kind", ["law", "news"])
def test_every_piece_is_a_part_of_its_document(shards, kind):
    pieces = 0
    for row in decode_rows(shards, kind, range(20)):
        assert row.source == kind
        assert row.padding + sum(placed.tokens for placed, _ in row.pieces) == SEQUENCE_LENGTH
        for placed, text in row.pieces:
            name, number = placed.document_id.rsplit("_", 1)
            if name == kind:
                assert text.removesuffix("<|endoftext|>") in document(kind, int(number))
                pieces += 1
    assert pieces > 10


def test_rows_beyond_the_last_are_left_out_and_a_source_that_is_not_there_is_named(shards):
    rows = sum(entry.rows for entry in shards.record.of_source("law"))
    assert [row.row for row in decode_rows(shards, "law", range(rows - 2, rows + 5))] == [rows - 2, rows - 1]
    with pytest.raises(ConfigError, match="there are no rows of source 'poems'") as error:
        list(decode_rows(shards, "poems", range(1)))
    assert error.value.fix == "name one of law, news with --source"
