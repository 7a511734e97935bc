"""Plain lines: results and progress on stdout, warnings on stderr, nothing that only a terminal understands."""

from __future__ import annotations

from cpt_ray.study.api import plain_console
from cpt_ray.study.api.plain_console import PlainConsole


def test_lines_are_plain_and_hold_no_credentials(capsys):
    console = PlainConsole()
    console.say("s3://me:secret@bucket/x")
    console.step("  made    train/x\x1b[31m")
    console.warn("careful")
    said = capsys.readouterr()
    assert "secret" not in said.out
    assert "\x1b" not in said.out
    assert said.out.endswith("\n")
    assert said.err == "  warning: careful\n"


def test_progress_is_said_at_most_every_ten_seconds(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(plain_console.time, "monotonic", lambda: now[0])
    console = PlainConsole()
    for second in range(25):
        now[0] = 100.0 + second
        console.progress(f"step {second}")
    assert capsys.readouterr().out.split("\n") == ["step 0", "step 10", "step 20", ""]
