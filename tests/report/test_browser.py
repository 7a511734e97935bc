"""A real browser shows the page: its parts, and figures with a size, at two widths."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cpt_ray.report.page import SECTIONS, write_report
from tests.report.html import read
from tests.report.made_up import make_contents


def find_chromium() -> str | None:
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


def browse(page: Path, profile: Path, *arguments: str) -> str:
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    command = [
        str(find_chromium()), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet,
        f"--user-data-dir={profile}", *arguments, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed, so nothing can open the page")
@pytest.mark.parametrize("width", [1200, 420])
def test_a_browser_shows_five_parts_and_figures_with_size(tmp_path, width):
    path = tmp_path / "report.html"
    write_report(path, make_contents())
    # The page itself may not run scripts, so a copy without its policy measures the browser's layout.
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    text = path.read_text(encoding="utf-8")
    assert policy.search(text)
    probe = (
        "<script>const box=e=>e.getBoundingClientRect();document.body.dataset.seen="
        "[...document.querySelectorAll('.plot svg')].map(box).map(r=>Math.round(r.width)+'x'+Math.round(r.height)).join(' ');"
        "document.body.dataset.overflow=document.documentElement.scrollWidth-document.documentElement.clientWidth</script></body>"
    )
    measured = tmp_path / "measured.html"
    measured.write_text(policy.sub("", text).replace("</body>", probe), encoding="utf-8")
    size = f"--window-size={width},2000"
    dom = browse(measured, tmp_path / "profile", size, "--dump-dom")
    assert read(dom).headings == list(SECTIONS)
    seen = [tuple(map(int, pair.split("x"))) for pair in dom.split('data-seen="')[1].split('"')[0].split()]
    shown = [pair for pair in seen if pair != (0, 0)]
    assert len(seen) == 10
    assert len(shown) == 5
    assert all(w > 0.7 * min(width, 1180) and h > 200 for w, h in shown), shown
    assert dom.split('data-overflow="')[1].split('"')[0] == "0"
    picture = tmp_path / "page.png"
    browse(path, tmp_path / "profile", size, f"--screenshot={picture}")
    assert picture.stat().st_size > 20_000
