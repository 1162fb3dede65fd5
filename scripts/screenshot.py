"""Takes a picture of a report for the documentation: a desktop in light colours beside a phone in dark ones.

    lpz report RUN -o report.html && python scripts/screenshot.py report.html docs/assets/report.png

Needs chromium and chromedriver, selenium and Pillow (`pip install 'lpzero-hf[test]'`).
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

DESKTOP, PHONE, HEIGHT, GAP = 1100, 390, 1740, 24  # CSS pixels
COLOURS = 200


def main(page: Path, picture: Path) -> None:
    """Write `picture` of `page`."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-sync", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            desktop = shot(driver, page, DESKTOP, "light", "main")
            phone = shot(driver, page, PHONE, "dark", "main section:nth-of-type(2)")
        finally:
            driver.quit()
    whole = Image.new("RGB", (DESKTOP + GAP + PHONE, HEIGHT), "#c9cfdb")
    whole.paste(desktop, (0, 0))
    whole.paste(phone, (DESKTOP + GAP, 0))
    picture.parent.mkdir(parents=True, exist_ok=True)
    whole.quantize(COLOURS).save(picture, optimize=True)


def shot(driver: Any, page: Path, width: int, scheme: str, start: str) -> Image.Image:
    """The page from an element on, or from the top for `main`."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(page.resolve().as_uri())
    driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 300))")
    top = 0 if start == "main" else driver.execute_script(
        f"return document.querySelector('{start}').getBoundingClientRect().top + scrollY"
    )  # fmt: skip
    clip = {"x": 0, "y": top, "width": width, "height": HEIGHT, "scale": 1}
    made = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return Image.open(io.BytesIO(base64.b64decode(made["data"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
