"""A real browser shows the page: its parts, and figures with a size, at two widths."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cpt_ray.report.page import write_report
from tests.report.html import read
from tests.report.made_up import make_contents
from tests.report.made_up_sizes import make_sizes
from tests.report.test_page import SECTIONS


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
@pytest.mark.parametrize(("study", "width"), [("one", 500), ("one", 1280), ("sizes", 500), ("sizes", 1920)])
def test_a_browser_shows_all_parts_and_nothing_is_wider_than_the_window(tmp_path, study, width):
    path = tmp_path / "report.html"
    write_report(path, make_contents() if study == "one" else make_sizes())
    # The page itself may not run scripts, so a copy without its policy measures the browser's layout, all parts open.
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    text = path.read_text(encoding="utf-8")
    assert policy.search(text)
    probe = (
        "<script>document.querySelectorAll('details').forEach(d=>d.open=true);const box=e=>e.getBoundingClientRect();"
        "document.body.dataset.seen="
        "[...document.querySelectorAll('.plot svg')].map(box).map(r=>Math.round(r.width)+'x'+Math.round(r.height)).join(' ');"
        "document.body.dataset.cut=[...document.querySelectorAll('table')].filter(t=>box(t.parentElement).right>innerWidth).length;"
        "document.body.dataset.overflow=document.documentElement.scrollWidth-document.documentElement.clientWidth</script></body>"
    )
    measured = tmp_path / "measured.html"
    measured.write_text(policy.sub("", text).replace("</body>", probe), encoding="utf-8")
    size = f"--window-size={width},2000"
    dom = browse(measured, tmp_path / "profile", size, "--dump-dom")
    assert read(dom).headings == SECTIONS
    seen = [tuple(map(int, pair.split("x"))) for pair in dom.split('data-seen="')[1].split('"')[0].split()]
    assert len(seen) == text.count('class="plot"')
    assert all(w > 0.25 * min(width, 1360) and h > 150 for w, h in seen), seen
    assert dom.split('data-overflow="')[1].split('"')[0] == "0"
    assert dom.split('data-cut="')[1].split('"')[0] == "0"


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed, so nothing can open the page")
def test_print_shows_what_the_screen_folds(tmp_path):
    path, printed = tmp_path / "report.html", tmp_path / "report.pdf"
    write_report(path, make_contents())
    open_pages = _pages(browse_pdf(path, printed, tmp_path))
    closed = tmp_path / "closed.html"
    closed.write_text(path.read_text(encoding="utf-8").replace("::details-content", "::nothing"), encoding="utf-8")
    assert open_pages > _pages(browse_pdf(closed, tmp_path / "closed.pdf", tmp_path)) >= 1


def browse_pdf(page: Path, out: Path, folder: Path) -> Path:
    browse(page, folder / "profile", f"--print-to-pdf={out}", "--no-pdf-header-footer")
    return out


def _pages(pdf: Path) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
