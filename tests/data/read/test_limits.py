"""Sources with bad records on Ray: errors arrive as raised in the worker, and the limit holds over all units."""

from pathlib import Path

import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.run.pipeline import prepare_documents
from cpt_ray.errors import DataError

from ..conftest import settings, sources_of
from ..prepared import job

pytestmark = [pytest.mark.accept(data=4), pytest.mark.ray, pytest.mark.usefixtures("ray_session_2cpu")]


def test_an_error_in_a_task_comes_back_as_it_was_raised(corpus: Path, tmp_path: Path) -> None:
    fields = {"name": "law", "role": "domain", "path": str(corpus / "law.jsonl"), "format": "jsonl", "text_field": "body"}
    source = SourceConfig.model_validate({**fields, "on_bad_record": "fail"})
    # Units fail in parallel: whichever fails first is reported, with its line.
    with pytest.raises(DataError, match=r"law\.jsonl, line \d+: no field 'body'; fields present: id, text") as caught:
        prepare_documents(job([source], settings(), tmp_path))
    assert caught.value.fix.endswith("or set on_bad_record of source law to drop")


def test_more_bad_records_than_the_limit_are_refused_with_counts_and_a_place(corpus: Path, tmp_path: Path) -> None:
    sources = sources_of(corpus)
    limited = [sources[0], sources[1].model_copy(update={"max_bad_share": 0.01})]
    message = (
        r"source law: 2 of 129 records are bad \(1\.6%\), but max_bad_share is 0\.01; 1 are bad_json, "
        r"for example .*law\.jsonl, line 11: not JSON: .*: \{not json"
    )
    with pytest.raises(DataError, match=message) as caught:
        prepare_documents(job(limited, settings(), tmp_path))
    assert caught.value.fix.endswith("or raise max_bad_share of source law")
