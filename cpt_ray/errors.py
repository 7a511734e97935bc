"""The errors that a user can cause or fix.

Each names the problem and where it is, and carries a `fix`. The command line prints both and exits with `exit_code`; anything
that is not a `CptRayError` is a bug and keeps its traceback.
"""


class CptRayError(Exception):
    """A problem that the user can fix.

    Args:
        problem: What is wrong and where (file, line, key, shard or rank), what was seen and what is allowed.
        fix: What to do about it, in one sentence.
    """

    exit_code = 2

    def __init__(self, problem: str, *, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n  fix: {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries by pickle, which does not support keyword-only arguments.
        return (_rebuild, (type(self), self.problem, self.fix))


def problem_of(error: BaseException) -> str:
    """What an error says, without its fix; of one that is a bug, its kind too."""
    return error.problem if isinstance(error, CptRayError) else f"{type(error).__name__}: {error}"


def _rebuild(kind: type[CptRayError], problem: str, fix: str) -> CptRayError:
    return kind(problem, fix=fix)


class ConfigError(CptRayError):
    """The study file or an override is wrong."""


class DataError(CptRayError):
    """The input text, a shard or a manifest is wrong."""


class ArtifactError(CptRayError):
    """A folder's content contradicts its manifest, or cannot be written."""


class LeaseError(CptRayError):
    """Another driver is running the same study, or has taken it over from this one."""


class TrainingStopped(CptRayError):  # noqa: N818  (not an error: the user asked for it)
    """Training was asked to stop and has saved a checkpoint; re-run the same command to resume."""

    exit_code = 130


class TrainingError(CptRayError):
    """Training cannot continue: a failed self-test, a non-finite loss, an impossible resume."""
