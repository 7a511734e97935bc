"""Take screenshots of script-rendered pages: headless Chromium over the DevTools protocol.

`chromium --screenshot` fires before a single-page application has fetched its data; this waits for a condition first.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
CHROMIUM += ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars")


def photograph(url: str, path: Path, *, until: str, before: str = "", width: int = 1500, height: int = 900) -> None:
    """Open `url`, wait until the JavaScript expression `until` is true, run `before`, and write a PNG.

    Raises:
        AssertionError: If the expression does not become true within a minute.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [*CHROMIUM, f"--user-data-dir={profile}", f"--window-size={width},{height}", "--remote-debugging-port=0"],
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile) / "DevToolsActivePort")
            asyncio.run(_photograph(port, url, path, until, before))
        finally:
            browser.terminate()
            browser.wait()


def _port(file: Path) -> int:
    for _ in range(150):
        if file.exists() and file.read_text().strip():
            return int(file.read_text().splitlines()[0])
        time.sleep(0.2)
    raise AssertionError("Chromium did not open its debugging port within 30 s")


async def _photograph(port: int, url: str, path: Path, until: str, before: str) -> None:
    targets = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10))
    page = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
    async with aiohttp.ClientSession() as session, session.ws_connect(page, max_msg_size=0) as socket:
        number = 0

        async def call(method: str, **parameters: Any) -> dict[str, Any]:
            nonlocal number
            number += 1
            await socket.send_json({"id": number, "method": method, "params": parameters})
            while True:
                answer: dict[str, Any] = await socket.receive_json(timeout=60)
                if answer.get("id") == number:
                    return answer["result"]

        await call("Page.navigate", url=url)
        for _ in range(120):
            await asyncio.sleep(0.5)
            if (await call("Runtime.evaluate", expression=f"Boolean({until})"))["result"].get("value"):
                break
        else:
            raise AssertionError(f"{url}: {until} did not become true within a minute")
        if before:
            await call("Runtime.evaluate", expression=before)
        await asyncio.sleep(3)
        shot = await call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
