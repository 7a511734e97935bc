from benchmarks.data.clean import agreement, differences, judge_ours, judge_with_plain_words

TEXT = "one, two, (three); four: " * 20


def test_only_verdicts_that_differ_are_listed_and_reasons_may():
    ours = [{"c4": None, "fineweb": "a"}, {"c4": "x", "fineweb": None}, {"c4": None, "fineweb": None}]
    theirs = [{"c4": None, "fineweb": "b"}, {"c4": None, "fineweb": None}, {"c4": None, "fineweb": None}]
    found = differences(ours, theirs)
    assert found == [{"document": 1, "set": "c4", "ours": "x", "theirs": None}]
    assert agreement(found, 3) == 1 - 1 / 3


def test_the_control_counts_words_otherwise():
    (ours,), _ = judge_ours([TEXT])
    (plain,) = judge_with_plain_words([TEXT])
    assert ours["gopher_quality"] == "gopher_quality.min_alphabetic_word_share"
    assert plain["gopher_quality"] == "gopher_quality.min_stop_words"
    assert judge_ours([TEXT])[0] == [ours]
