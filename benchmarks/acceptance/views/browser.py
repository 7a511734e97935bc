"""Look at pages in headless Chromium over the DevTools protocol: screenshots, and what a report's layout does at a width.

`chromium --screenshot` fires before a single-page application has fetched its data, and its window is at least 500 px wide;
here a condition is waited for, and any width can be asked for. In: an address or a file. Out: PNG files, and `Seen`, the facts
that a test or an acceptance list judges. A page's policy against scripts holds: the browser itself asks what is asked here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
CHROMIUM += ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars")

WIDTHS = (390, 1280, 1920)
"""Pixels of a phone, a laptop and a desktop screen."""
HEIGHTS = {390: 844, 1280: 800, 1920: 1080}
FIRST_FIGURES, LAPTOP = ("figure-scaling", "figure-forgetting"), 1280
"""Ids of the figures of a report's first screen, and from which width on it has both."""
_A4_WIDTH = 718
"""Pixels of an A4 sheet between margins of 1 cm, at 96 to the inch."""

_MEASURE = """(() => {
  if (OPEN) document.querySelectorAll('details').forEach(one => one.open = true);
  const box = one => one.getBoundingClientRect(), shown = one => one.checkVisibility() && box(one).width > 0;
  const name = one => (one.closest('figure') ?? one.closest('section') ?? {id: 'first screen'}).id
    + ': ' + [...one.querySelectorAll('thead th')].map(cell => cell.textContent).join(' | ');
  const wrapper = one => one.closest('.scroll') ?? one.parentElement;
  const tables = [...document.querySelectorAll('table')].filter(shown);
  const plots = [...document.querySelectorAll('.plot svg')].filter(shown);
  const texts = svg => [...svg.querySelectorAll('text')].filter(one => one.textContent.trim()).map(one => [one, box(one)]);
  const clash = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const overlaps = plots.flatMap(svg => { const found = texts(svg); return found.flatMap(([one, a], place) =>
    found.slice(place + 1).filter(([, b]) => clash(a, b)).map(([other]) =>
      svg.closest('figure').id + ': ' + one.textContent + ' / ' + other.textContent)); });
  const outside = plots.flatMap(svg => texts(svg).filter(([, a]) => a.left < box(svg).left - 1 || a.right > box(svg).right + 1)
    .map(([one]) => svg.closest('figure').id + ': ' + one.textContent));
  const sum = document.querySelector('header'), root = document.documentElement, style = getComputedStyle(document.body);
  const bottom = one => one ? Math.round(box(one).bottom + scrollY) : null;
  const top = one => one ? Math.round(box(one).top + scrollY) : null;
  return {
    overflow: root.scrollWidth - root.clientWidth,
    cut: tables.filter(one => one.scrollWidth > wrapper(one).clientWidth + 1 || box(one).right > innerWidth + 1).map(name),
    tables: tables.length, plots: plots.map(box).map(one => [Math.round(one.width), Math.round(one.height)]),
    unnamed: [...document.querySelectorAll('[role=img], img')]
      .filter(one => !(one.getAttribute('aria-label') ?? one.alt)).length,
    overlaps, outside, ink: style.color, paper: style.backgroundColor,
    figures: [...document.querySelectorAll('figure')].map(one => one.id),
    bars: Object.fromEntries([...document.querySelectorAll('figure')].map(one => [one.id, one.querySelectorAll('.e').length])),
    verdict: document.querySelector('.verdict')?.textContent ?? '', verdict_bottom: bottom(document.querySelector('.verdict')),
    drawn: Object.fromEntries(plots.toReversed().map(svg => [svg.closest('figure').id, [top(svg), bottom(svg)]])),
    results_top: top(sum?.querySelector('table')), results_bottom: bottom(sum?.querySelector('table')),
    headings: [...document.querySelectorAll('h2')].map(one => one.textContent),
    height: root.scrollHeight, window_height: innerHeight,
  };
})()"""


@dataclass
class Tab:
    """One page of the browser.

    Attributes:
        requests: Addresses that it asked for since it was opened.
    """

    socket: aiohttp.ClientWebSocketResponse
    requests: list[str] = field(default_factory=list)
    _number: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result.

        Raises:
            AssertionError: If the browser refuses it.
        """
        self._number += 1
        await self.socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            answer: dict[str, Any] = await self.socket.receive_json(timeout=60)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    async def value(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page.

        Raises:
            AssertionError: If it throws.
        """
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"JavaScript: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def open(self, url: str, until: str = "document.readyState == 'complete'") -> None:
        """Open an address and wait until a JavaScript expression is true.

        Raises:
            AssertionError: If it does not become true within a minute.
        """
        await self.call("Page.navigate", url=url)
        for _ in range(600):
            await asyncio.sleep(0.1)
            if await self.value(f"location.href != 'about:blank' && Boolean({until})"):
                return
        raise AssertionError(f"{url}: {until} did not become true within a minute")

    async def size(self, width: int, height: int) -> None:
        """Lay the page out for a window of that size in pixels."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    async def save(self, path: Path, *, whole: bool = False) -> None:
        """Write a screenshot of the window, or of the whole page."""
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def open_browser(width: int = 1500, height: int = 900) -> AsyncIterator[Tab]:
    """Start Chromium with one empty page, whose requests are recorded."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [
                *CHROMIUM,
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                "--remote-debugging-port=0",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile) / "DevToolsActivePort")
            targets = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10))
            page = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
            async with aiohttp.ClientSession() as session, session.ws_connect(page, max_msg_size=0) as socket:
                tab = Tab(socket)
                await tab.call("Network.enable")
                yield tab
        finally:
            browser.terminate()
            browser.wait()


def photograph(url: str, path: Path, *, until: str, before: str = "", width: int = 1500, height: int = 900) -> None:
    """Open `url`, wait until the JavaScript expression `until` is true, run `before`, and write a PNG.

    Raises:
        AssertionError: If the expression does not become true within a minute.
    """

    async def take() -> None:
        async with open_browser(width, height) as tab:
            await tab.open(url, until)
            if before:
                await tab.value(before)
            await asyncio.sleep(3)  # charts are drawn after their data has come
            await tab.save(path)

    asyncio.run(take())


@dataclass(frozen=True, kw_only=True)
class View:
    """How to look at a report.

    Attributes:
        width: Of the window in pixels.
        height: Likewise; 0 stands for that of a screen of such a width.
        dark: Whether the reader prefers dark pages.
        printed: Whether it is laid out as on paper.
        unfold: Whether everything folded is opened first.
        shot: Where to write a screenshot, if at all.
        whole: Whether that shows the whole page and not the first screen.
    """

    width: int
    height: int = 0
    dark: bool = False
    printed: bool = False
    unfold: bool = True
    shot: Path | None = None
    whole: bool = False

    @classmethod
    def paper(cls, **changes: Any) -> View:
        """An A4 sheet."""
        return cls(width=_A4_WIDTH, printed=True, unfold=False, **changes)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a view showed; lengths in pixels.

    Attributes:
        overflow: How much wider than the window the page is.
        cut: Tables of which a part is not in sight.
        tables: How many tables are in sight.
        plots: Width and height of each panel of a figure.
        unnamed: Images without a text for those who do not see them.
        overlaps: Texts of figures that lie on each other.
        outside: Texts that a panel cuts.
        ink: Color of text.
        paper: Color behind it.
        figures: Ids of figures.
        bars: How many intervals each draws.
        verdict: The sentence that the page opens with.
        verdict_bottom: Where it ends.
        results_top: Where the table of results begins; None if there is none.
        results_bottom: Where it ends.
        drawn: Figure to where its first panel begins and ends.
        headings: Of the parts.
        height: Of the page.
        window_height: Of the window: what of the page is its first screen.
        requests: Everything that was asked of any address but the page's own.
    """

    overflow: int
    cut: list[str]
    tables: int
    plots: list[tuple[int, int]]
    unnamed: int
    overlaps: list[str]
    outside: list[str]
    ink: str
    paper: str
    figures: list[str]
    bars: dict[str, int]
    verdict: str
    verdict_bottom: int
    results_top: int | None
    results_bottom: int | None
    drawn: dict[str, tuple[int, int]]
    headings: list[str]
    height: int
    window_height: int
    requests: list[str]


def look(page: Path, views: Sequence[View]) -> list[Seen]:
    """Open a report in each of the views, in one browser."""

    async def all_views() -> list[Seen]:
        async with open_browser() as tab:
            return [await _look(tab, page.resolve().as_uri(), view) for view in views]

    return asyncio.run(all_views())


def load_seconds(page: Path) -> float:
    """Seconds from asking for a report until the browser has loaded it and laid it out, its own start not counted."""

    async def load() -> float:
        async with open_browser() as tab:
            await tab.size(LAPTOP, HEIGHTS[LAPTOP])
            await tab.open(page.resolve().as_uri())
            # Layout is due at the latest when a height is asked for.
            asked = "const before = performance.now(); document.documentElement.scrollHeight; return performance.now() - before"
            laid_out = await tab.value(f"(() => {{ {asked}; }})()")
            loaded = await tab.value("performance.getEntriesByType('navigation')[0].loadEventEnd")
            return float(loaded + laid_out) / 1000

    return asyncio.run(load())


async def _look(tab: Tab, url: str, view: View) -> Seen:
    await tab.size(view.width, view.height or HEIGHTS.get(view.width, 1000))
    scheme = {"name": "prefers-color-scheme", "value": "dark" if view.dark else "light"}
    await tab.call("Emulation.setEmulatedMedia", media="print" if view.printed else "screen", features=[scheme])
    await tab.call("Page.navigate", url="about:blank")
    tab.requests.clear()
    await tab.open(url)
    found = await tab.value(_MEASURE.replace("OPEN", "true" if view.unfold else "false"))
    if view.shot is not None:
        await tab.save(view.shot, whole=view.whole)
    return Seen(**found, requests=[one for one in tab.requests if one != url and not one.startswith("data:")])


def _port(file: Path) -> int:
    for _ in range(150):
        if file.exists() and file.read_text().strip():
            return int(file.read_text().splitlines()[0])
        time.sleep(0.2)
    raise AssertionError("Chromium did not open its debugging port within 30 s")
