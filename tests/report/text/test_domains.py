"""What `cpt-ray prepare` prints about filters."""

from cpt_ray.records import DomainFindings
from cpt_ray.report.text.domains import describe_domains
from tests.report.made_up_domains import DOMAINS


def test_classifier_yield_selection_and_overlap_are_printed() -> None:
    said = describe_domains(DOMAINS)
    text = "\n".join(said)
    assert said[1] == (
        "classifier legal (ngrams): trained on 480 + 960, calibrated on 120 + 240, tested on 200 + 400 held-out examples"
    )
    assert "precision 0.980 (0.950 to 0.992), recall 0.970 (0.936 to 0.986), F1 0.975 (0.955 to 0.986)" in text
    assert "legal on web: an estimated share of 0.061 (0.040 to 0.080) of its 50000 documents is positive" in text
    assert [line.split()[:2] for line in text.splitlines() if line.strip().startswith(("0.5 ", "0.8 "))] == [
        ["0.5", "3100"],
        ["0.8", "2400"],
    ]
    assert "source web_legal (legal >= 0.8): 2400 of 50000 documents and 960000 of 20000000 tokens of web (4.8 %)" in text
    assert text.splitlines()[-2].split() == ["special", "general", "2400", "960000", "100.0", "%"]


def test_a_loaded_model_was_not_trained_here_and_a_study_without_filters_prints_nothing() -> None:
    loaded = DOMAINS.classifiers[0].model_copy(update={"weights_path": None})
    said = describe_domains(DomainFindings(classifiers=(loaded,)))
    assert said[1].startswith("classifier legal (ngrams): calibrated on 120 + 240, tested on")
    assert describe_domains(DomainFindings()) == []
