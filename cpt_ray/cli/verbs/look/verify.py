"""Rehash raw files, artifacts and shards, and list every file that has changed."""

from cpt_ray.cli.request import Request
from cpt_ray.errors import ArtifactError
from cpt_ray.study.inspect.verify import verify_study
from cpt_ray.study.stages.stage import Checked


def main(request: Request) -> None:
    """Run the verb; it only reads, so it takes no lease.

    Raises:
        ArtifactError: If anything differs; all differences are printed first.
    """

    def say(checked: Checked) -> None:
        request.console.say(f"  {'CHANGED' if checked.problems else 'same   '}  {checked.name}  ({checked.amount})")
        for problem in checked.problems:
            request.console.say(f"             {problem.problem}")

    graph = request.graph()
    found = verify_study(graph, say)
    wrong = [problem for checked in found for problem in checked.problems]
    if wrong:
        raise ArtifactError(f"{len(wrong)} of what was checked differ; the first: {wrong[0].problem}", fix=wrong[0].fix)
    artifacts = sum(not checked.is_input for checked in found)
    request.console.say(
        f"verified: {artifacts} of {len(graph.all())} artifacts exist; "
        f"none has changed{', and neither have the raw files' if artifacts < len(found) else ''}"
    )
