"""Check this machine, and with a study file what the study needs of it and of every node; fixes to paste."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.config.load import load_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.errors import CptRayError
from cpt_ray.records import Finding
from cpt_ray.study.preflight.doctor.cluster import check_cluster, on_cluster
from cpt_ray.study.preflight.doctor.machine import check_machine
from cpt_ray.study.preflight.doctor.needs import check_study
from cpt_ray.study.preflight.doctor.software import check_software
from cpt_ray.study.preflight.doctor.step import STEP, StepSettings, check_step
from cpt_ray.study.preflight.doctor.table import render_findings


def main(options: Namespace, console: TerminalConsole) -> None:
    """Run the verb; nothing is changed.

    Raises:
        CptRayError: If a check fails, after the table of all.
    """
    path = None if options.config is None else Path(options.config)
    config = None if path is None else load_study(path, tuple(options.overrides))
    findings: list[Finding] = []
    for one in _findings(config, path, step=options.step):
        console.progress(f"  checked {one.what}")
        findings.append(one)
    console.say(render_findings(findings))
    failed = [one.what for one in findings if one.level == "fail"]
    if failed:
        raise CptRayError(f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}", fix="those in the table")


def _findings(config: StudyConfig | None, path: Path | None, *, step: bool) -> Iterator[Finding]:
    yield from check_software()
    yield from check_machine(Path(config.runtime.scratch) if config is not None and config.runtime.scratch else None)
    settings: StepSettings | None = None
    if step:
        try:
            settings = StepSettings() if config is None or path is None else StepSettings.of(config, path)
        except CptRayError as error:
            yield Finding(STEP, error.problem, "fail", error.fix)
    if config is not None and path is not None:
        yield from check_study(config, path)
        yield from check_cluster(config, settings)
    if settings is not None and (config is None or not on_cluster(config)):
        yield check_step(settings)
