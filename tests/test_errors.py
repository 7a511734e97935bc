"""Errors carry their fix, even across process boundaries."""

import pickle

import pytest

from cpt_ray.errors import ArtifactError, ConfigError, CptRayError, DataError, LeaseError, TrainingError, problem_of

KINDS = [CptRayError, ConfigError, DataError, ArtifactError, LeaseError, TrainingError]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_its_problem_and_then_its_fix(kind):
    assert str(kind("shard 7 is short", fix="run prepare again")) == "shard 7 is short\n  fix: run prepare again"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_to_another_process(kind):
    error = pickle.loads(pickle.dumps(kind("a", fix="b")))
    assert type(error) is kind
    assert (error.problem, error.fix, str(error)) == ("a", "b", "a\n  fix: b")


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_user_ends_with_code_2(kind):
    assert issubclass(kind, CptRayError)
    assert kind.exit_code == 2


def test_an_error_without_a_fix_cannot_be_made():
    with pytest.raises(TypeError, match="fix"):
        CptRayError("a")


def test_what_an_error_says_names_the_kind_of_a_bug_and_leaves_the_fix_out():
    assert problem_of(ConfigError("no such key", fix="write another")) == "no such key"
    assert problem_of(KeyError("x")) == "KeyError: 'x'"
