"""A headless Chromium with a profile of its own, that looks at local pages and tells what they asked for."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers import debian

# selenium is imported where it is used: it is large, and every process of a test run reads the tests that need it.
if TYPE_CHECKING:
    from selenium.webdriver import ActionChains, Chrome
    from selenium.webdriver.remote.webelement import WebElement

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--lang=en-US",
)  # fmt: skip


class Browser:
    """One window; `driver` is what selenium drives it with."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> float:
        """Show a page in a window of this size; return the seconds from navigation to its charts."""
        self.prefer(dark=dark)
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        self.driver.get(page.as_uri())
        self.wait("document.documentElement.dataset.drawn")
        return float(self.run("return Number(document.documentElement.dataset.drawn)")) / 1000

    def prefer(self, *, dark: bool) -> None:
        """Be a system with a dark or a light theme."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str, *, timeout: float = 20.0) -> None:
        """Wait until an expression is true in the page."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, timeout, poll_frequency=0.02).until(lambda driver: self.run(f"return {condition}"))

    def find(self, selector: str) -> WebElement:
        """The first element that a CSS selector finds."""
        return self.driver.find_element("css selector", selector)

    def pointer(self, *, duration: int = 0) -> ActionChains:
        """The pointer, which takes so many milliseconds for each move."""
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver, duration=duration)

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def console(self) -> list[str]:
        """What the console said since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last time."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def screenshot(self, height: int | None = None) -> bytes:
        """The page as PNG, as high as it is, or so many pixels of it."""
        width, full = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(full, height or full), "scale": 1}
        return base64.b64decode(self.command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start one, with an empty directory as its profile.

    :raises Unavailable: if Chromium or its driver is not installed.
    """
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    debian.require("chromium")
    options = ChromeOptions()
    options.binary_location = str(debian.find_program("chromium"))
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver named, selenium looks for none and downloads none.
    driver = Chrome(options=options, service=Service(str(debian.find_program("chromedriver"))))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
