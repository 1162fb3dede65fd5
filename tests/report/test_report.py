"""`lpz report`: one HTML page of runs, which headless Chromium opens without a complaint or a request."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lpz_report import report
from lpz_report.command import command, only_in_python

from lpzero_hf.errors import LpzError
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.pruning import REASONS
from lpzero_hf.searching.run_folder import FORMAT, VERSION
from lpzero_hf.searching.search import search
from tests.support.searches import few_resamples

Lpz = Callable[..., tuple[int, str, str]]
BRIEF = Setting(batch_size=2, seq_len=8)
ROOT = Path(__file__).parents[2]
STRANGE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1<"  # a name that a page must not believe
CHROMIUM, DRIVER = (next(filter(None, map(shutil.which, names)), None) for names in (
    ("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)
))  # fmt: skip
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no headless Chromium here: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small evolution on two splits."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    sizes: dict[str, Any] = {
        "limit": 16,
        "train": 10,
        "splits": 2,
        "preset": "paper",
        "iterations": 30,
        "population": 10,
    }
    with few_resamples():
        search("tiny-gpt2", setting=BRIEF, out=folder, ceiling=True, **sizes)
    return folder


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exhaustive search on a benchmark with a name that is HTML."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / STRANGE).mkdir()
    shutil.copy(ROOT / "zoo" / "lpz_zoo" / "data" / "tiny-gpt2.json", folder / STRANGE / "benchmark.json")
    with few_resamples():
        search(
            str(folder / STRANGE),
            strategy="exhaustive",
            limit=12,
            train=8,
            setting=BRIEF,
            out=folder / "run",
            reduces=("sum",),
        )
    return folder / "run"


def result_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


# The page as text ------------------------------------------------------------------------------------------


def test_a_report_tells_the_numbers_of_its_run(run: Path, lpz: Lpz, tmp_path: Path) -> None:
    code, out, err = lpz("report", str(run), "-o", str(tmp_path / "r.html"), "--title", "Mine", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    result = result_of(run)
    assert told["bytes"] == (tmp_path / "r.html").stat().st_size
    assert told["runs"][0]["summary"] == result["summary"]
    assert "<title>Mine</title>" in page
    found = result["summary"]["tiny-gpt2"]["winner"]
    assert f"{found['spearman']:.3f} ± {found['spearman_sd']:.3f}" in page.replace("\N{MINUS SIGN}", "-")
    for split in result["splits"]:
        for text in split["winner"]["expressions"] + split["ensemble"]["expressions"]:
            assert text in page
    assert result["versions"]["torch"] in page
    reasons = {reason for split in result["splits"] for reason in [*split["pruned"], *split["rejected"]]}
    assert reasons
    assert all(f"{REASONS[reason]}</td>" in page for reason in reasons)


def test_the_same_runs_give_the_same_page(run: Path) -> None:
    assert report([run]) == report([str(run)])


def test_a_page_allows_no_request(run: Path) -> None:
    page = report([run])[0]
    ours = page[: page.index('<script type="application/json"')]
    assert "default-src 'none'" in ours
    assert not re.search(r"(?:src|href)=\"(?!#|data:,)", ours)
    assert "@import" not in ours
    assert "url(" not in ours


def test_several_runs_are_compared(run: Path, strange: Path, lpz: Lpz, tmp_path: Path) -> None:
    graded = tmp_path / "graded.json"
    code, out, _ = lpz("bench", "eval", "tiny-gpt2", "-p", "l2_norm", "--limit", "12",
                       "--batch-size", "2", "--seq-len", "8", "--workers", "1", "--json")  # fmt: skip
    assert code == 0
    graded.write_text(out, encoding="utf-8")
    page, facts = report([run, strange, graded])
    assert [fact["kind"] for fact in facts] == ["search", "search", "grading"]
    assert "side by side" in page
    grades = {grade["proxy"]: grade["agreement"]["spearman"]["value"] for grade in json.loads(out)["grades"]}
    assert facts[2]["spearman"] == grades
    assert f"{grades['l2_norm']:+.3f}".replace("-", "\N{MINUS SIGN}") in page
    own = page[page.index("Grades of the proxies") :]
    document = json.loads(out)
    assert f"{document['matched']['pairs']} pairs of architectures within 1.15 times decoder_params" in page
    for grade in document["grades"]:
        numbers = [
            grade["agreement"]["matched"]["agreement"]["value"],
            grade["beyond"]["ridge_with"] - grade["beyond"]["ridge"],
        ]
        assert all(f"{number:+.3f}".replace("-", "\N{MINUS SIGN}") in own for number in numbers)


def test_a_search_on_all_architectures_says_that_nothing_was_held_out(tmp_path: Path) -> None:
    search("tiny-gpt2", limit=12, train=None, iterations=5, population=5, setting=BRIEF, out=tmp_path)
    page = report([tmp_path])[0]
    assert "Nothing" in page
    assert f"{result_of(tmp_path)['splits'][0]['fittest'][0]['fitness']:.3f}" in page
    assert "baseline" not in page[: page.index('<script type="application/json"')].split("<main")[1]


def test_names_that_are_html_are_text(run: Path, strange: Path) -> None:
    page = report([strange], title=STRANGE)[0]
    assert "&lt;img src=x" in page
    assert "onerror='window.hacked=1'>" not in page
    for tag in ("<script", "<img", "onerror"):
        there = page.replace("&lt;img src=x onerror", "") if tag == "onerror" else page
        assert there.count(tag) == report([run])[0].count(tag), tag


def test_the_command_makes_the_same_plan(lpz: Lpz, tmp_path: Path) -> None:
    plan = SearchConfig(
        ("tiny-gpt2",), "random", (2, 1), ("mean",), fitness="kendall", select="best", train=None, prune=False,
        iterations=3, population=4, seed=7, limit=9, setting=Setting(3, 9, random_tokens=True, seed=7, dtype="float64"),
    )  # fmt: skip
    text = command(plan, ["tiny-gpt2"], ceiling=True)
    assert text.endswith("--random-tokens --test tiny-gpt2 --ceiling")
    # a search refuses a folder with another plan, and says where they differ: nowhere else, so the command gave it all
    document = {"format": FORMAT, "version": VERSION, "plan": plan.to_json() | {"elite": 0.2}}
    (tmp_path / "plan.json").write_text(json.dumps(document), encoding="utf-8")
    code, _, err = lpz(*shlex.split(command(plan))[1:], "--out", str(tmp_path), "--resume")
    assert code == 2
    assert [name for name in plan.to_json() if f"{name} was" in err] == ["elite"]
    assert only_in_python(plan) == ""
    assert command(SearchConfig(("x",), preset="paper", batch=9)) == (
        "lpz search x --strategy evolution --preset paper --batch 9 --device cpu"
    )
    assert command(SearchConfig(("x",), "random", early=0)) == "lpz search x --strategy random --early 0 --device cpu"
    unread = SearchConfig(("x",), "exhaustive", early=0, population=9, batch=3, prune=False, combine="worst")
    assert command(unread) == "lpz search x --strategy exhaustive --device cpu"  # which the command refuses
    assert only_in_python(SearchConfig(("x",), elite=0.2, seed=1)) == "elite=0.2, setting.seed=42"


# What cannot be reported -----------------------------------------------------------------------------------


def test_what_is_no_finished_run_gets_one_line(run: Path, lpz: Lpz, tmp_path: Path) -> None:
    unfinished, damaged, lost = (shutil.copytree(run, tmp_path / name) for name in ("unfinished", "damaged", "lost"))
    (unfinished / "result.json").unlink()
    (damaged / "result.json").write_text('{"plan": ', encoding="utf-8")
    shutil.rmtree(lost / "split-01")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    for name, code, message in (
        ("nowhere", 2, "no run"),
        ("empty", 2, "is empty"),
        ("unfinished", 2, "--resume"),
        ("damaged", 1, "JSON"),
        ("lost", 1, "history"),
        ("list.json", 1, "no grading"),
    ):
        got, out, err = lpz("report", str(tmp_path / name), "-o", str(tmp_path / "r.html"))
        assert (got, out, err.count("\n")) == (code, "", 1), name
        assert message in err
    assert not (tmp_path / "r.html").exists()


def test_a_file_is_replaced_whole_or_not_at_all(run: Path, lpz: Lpz, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    assert lpz("report", str(run), "-o", str(page))[0] == 0
    before = page.read_text(encoding="utf-8")
    assert lpz("report", str(run), str(tmp_path / "nowhere"), "-o", str(page))[0] == 2
    assert page.read_text(encoding="utf-8") == before
    assert lpz("report", str(run), "-o", str(page))[0] == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    for place, code, message in ((tmp_path, 2, "folder"), (page / "r.html", 1, "cannot write")):
        got, _, err = lpz("report", str(run), "-o", str(place))
        assert got == code
        assert message in err
        assert err.count("\n") == 1


def test_the_script_of_the_plots_takes_a_third_of_its_size(run: Path) -> None:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    assert len(report([run])[0]) < len(get_plotlyjs()) / 2


@pytest.mark.parametrize("missing", ["plotly", "jinja2"])
def test_a_missing_extra_is_named(missing: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(LpzError, match=rf"{missing}.*lpzero-hf\[report\]"):
        report([run])


# The page in a browser -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(run: Path, strange: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of both runs, as a file."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(report([run, strange])[0], encoding="utf-8")
    return file


@pytest.fixture
def opened(chromium: Any, page: Path) -> Iterator[Any]:
    """The report opened on a desktop screen, in light colours; afterwards the console must be empty."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    show(chromium)
    chromium.get_log("performance")
    chromium.get(page.as_uri())
    WebDriverWait(chromium, 60).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ":root.drawn"))
    yield chromium
    assert chromium.get_log("browser") == []


def show(driver: Any, width: int = 1100, media: str = "screen", scheme: str = "light") -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def luminance(driver: Any, expression: str) -> float:
    """Of the colour that a script's expression gives, 0 to 255."""
    red, green, blue = map(int, re.findall(r"\d+", driver.execute_script(f"return {expression}"))[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


PAPER = "getComputedStyle(document.body).backgroundColor"
TICK = "getComputedStyle(document.querySelector('.xtick text')).fill"
TRACES = """return [...document.querySelectorAll('.canvas')].map(canvas =>
  [...canvas.querySelectorAll('.scatterlayer .trace')].filter(trace =>
    [...trace.querySelectorAll('path')].some(path => path.getBoundingClientRect().height > 0)).length)"""


@needs_chromium
@pytest.mark.integration
def test_every_plot_draws_and_nothing_is_asked_of_the_network(opened: Any, run: Path, strange: Path) -> None:
    traces = opened.execute_script(TRACES)
    # correlations, scores against truth, front, progress: 6 rows each with means, or one dot a row; two groups; ...
    baselines = [len(result_of(at)["splits"][0]["baselines"].popitem()[1]) for at in (run, strange)]
    assert traces[0] == 2 * (2 + baselines[0])
    assert traces[1:4] == [2, 2, 4]
    assert traces[4] == 2 + baselines[1]
    assert traces[5:] == [2, 1, 1]
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert len(asked) >= 1
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert opened.execute_script("return window.hacked") is None


@needs_chromium
@pytest.mark.integration
def test_controls_change_what_a_plot_shows(opened: Any) -> None:
    def title(plot: int) -> str:
        return str(opened.execute_script(f"return document.querySelector('#plot-{plot} .xtitle').textContent"))

    def choose(plot: int, control: int, option: int) -> None:
        opened.execute_script(
            f"const it = document.querySelectorAll('#controls-{plot} select')[{control}];"
            f"it.selectedIndex = {option}; it.dispatchEvent(new Event('change'));"
        )

    assert title(0).startswith("Spearman's rho")
    choose(0, 0, 1)
    assert title(0).startswith("Kendall's tau-b")
    before = opened.execute_script("return document.querySelector('#plot-1 .points').innerHTML")
    choose(1, 0, 1)
    choose(1, 1, 1)
    choose(1, 2, 1)
    assert title(1).startswith("score")
    assert opened.execute_script("return document.querySelector('#plot-1 .points').innerHTML") != before


@needs_chromium
@pytest.mark.integration
def test_a_browser_that_cannot_unpack_the_plots_says_so(chromium: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    source = {"source": "delete window.DecompressionStream"}
    script = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source)
    chromium.get(page.as_uri())
    WebDriverWait(chromium, 60).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, "main > .note"))
    chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert chromium.get_log("browser")


@needs_chromium
@pytest.mark.integration
def test_a_click_sorts_a_table(opened: Any) -> None:
    from selenium.webdriver.common.by import By

    table = next(
        t for t in opened.find_elements(By.TAG_NAME, "table") if "evaluated" not in t.text and "place" in t.text
    )
    names = [head.text for head in table.find_elements(By.TAG_NAME, "th")]

    def column(name: str) -> list[str]:
        at = names.index(name) + 1
        return [
            cell.get_attribute("data-value") for cell in table.find_elements(By.CSS_SELECTOR, f"td:nth-child({at})")
        ]

    def press(name: str) -> str:
        head = table.find_elements(By.TAG_NAME, "th")[names.index(name)]
        opened.execute_script("arguments[0].click()", head.find_element(By.TAG_NAME, "button"))
        return str(head.get_attribute("aria-sort"))

    fitness, texts = [float(v) for v in column("fitness")], column("expression")
    assert fitness != sorted(fitness)
    assert press("fitness") == "ascending"
    assert [float(v) for v in column("fitness")] == sorted(fitness)
    assert press("fitness") == "descending"
    assert [float(v) for v in column("fitness")] == sorted(fitness, reverse=True)
    assert press("expression") == "ascending"
    assert sorted(column("expression")) == sorted(texts)
    assert [head.get_attribute("aria-sort") for head in table.find_elements(By.TAG_NAME, "th")].count("none") == 4


@needs_chromium
@pytest.mark.integration
def test_a_phone_shows_all_without_scrolling_sideways(opened: Any) -> None:
    show(opened, 360)
    opened.refresh()
    assert opened.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    assert min(opened.execute_script(TRACES)) > 0
    beyond = opened.execute_script(
        "return [...document.querySelectorAll('main *')].filter(it => !it.closest('.scroll, pre, .unseen')"
        " && it.getBoundingClientRect().right > 361).map(it => it.outerHTML.slice(0, 80))"
    )
    assert beyond == []


@needs_chromium
@pytest.mark.integration
def test_dark_mode_turns_page_and_plots(opened: Any) -> None:
    assert luminance(opened, PAPER) > 230
    assert luminance(opened, TICK) < 60
    show(opened, scheme="dark")
    opened.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 100))")
    assert luminance(opened, PAPER) < 40
    assert luminance(opened, TICK) > 200


@needs_chromium
@pytest.mark.integration
def test_a_print_is_light_and_hides_nothing(opened: Any) -> None:
    show(opened, width=700, media="print", scheme="dark")
    opened.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 100))")
    assert luminance(opened, PAPER) > 230
    assert luminance(opened, TICK) < 60
    hidden = opened.execute_script(
        "return [...document.querySelectorAll('section, table, tr, svg.tree, .canvas, p')]"
        ".filter(it => it.getBoundingClientRect().height < 5).map(it => it.outerHTML.slice(0, 80))"
    )
    assert hidden == []
    cut = opened.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter(it => getComputedStyle(it).overflowY !== 'visible'"
        " || it.scrollHeight > it.clientHeight + 1).map(it => it.ariaLabel)"
    )
    assert cut == []
    assert opened.execute_script(
        "return [...document.querySelectorAll('.main-svg')].every(it => it.clientWidth <= 660)"
    )
    show(opened)
    opened.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 100))")
    assert opened.execute_script("return document.querySelector('.main-svg').clientWidth") > 700
