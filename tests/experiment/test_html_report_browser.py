"""The report as a person uses it: in a browser, with mouse and keyboard, on a phone, on paper."""

import base64
import json
import os
import shlex
import shutil
from contextlib import suppress

import pytest

from nasbench.experiment.html_report import write_html_report
from nasbench.space import ElasticDimension, SearchSpace
from tests.experiment.searched import SPACE, make_searched_run

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='hacked = 1'>&amp;"


@pytest.fixture(scope="module")
def browser():
    """A browser without a window."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip(
            "needs Chromium and its driver to click in a report; on Debian: "
            "apt-get install chromium chromium-driver"
        )
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses to give root a sandbox
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_searched_run(tmp_path_factory.mktemp("runs") / "a toy")


@pytest.fixture(scope="module")
def pages(run, tmp_path_factory):
    """Name -> path of a page."""
    folder = tmp_path_factory.mktemp("pages")
    hostile = make_searched_run(
        folder / HOSTILE.strip("/"),  # of two runs of one name, the folder is the label
        seed=1,
        task=HOSTILE,
        space=SearchSpace([*SPACE, ElasticDimension(f"stage1.{HOSTILE}", (HOSTILE, "relu"))]),
    )
    write_html_report([run], folder / "one.html")
    write_html_report([run, hostile], folder / "two.html")
    return {name: folder / f"{name}.html" for name in ("one", "two")}


@pytest.fixture
def show(browser, pages):
    """Open a page of a name on a screen of a size, and wait until it is drawn."""

    def show(name, width=1200, height=1000, is_phone=False):
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(pages[name].as_uri())
        browser.execute_async_script(
            "const done = arguments[0]; setTimeout(() => requestAnimationFrame(() => done()), 200)"
        )
        return browser

    yield show
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def drawn(browser):
    """What the front shows: {(run, trial): (x, y, left, top)}, the last two on the screen."""
    found = browser.execute_script(
        """
        const plot = document.getElementById("front");
        const { xaxis, yaxis, margin } = plot._fullLayout;
        const box = plot.getBoundingClientRect();
        return plot.data.filter((trace) => trace.customdata).flatMap((trace) =>
          trace.customdata.map((which, i) => [which, [trace.x[i], trace.y[i],
            box.left + xaxis._offset + xaxis.l2p(trace.x[i]),
            box.top + yaxis._offset + yaxis.l2p(trace.y[i])]]));
        """
    )
    return {tuple(which): values for which, values in found}


def top_of_front(browser):
    return browser.execute_script("return front.getBoundingClientRect().top")


def text(browser, selector):
    return browser.execute_script(
        "return document.querySelector(arguments[0]).textContent", selector
    )


def move_to(browser, left, top):
    mouse = {"type": "mouseMoved", "x": left, "y": top}
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", mouse)
    browser.execute_async_script("setTimeout(arguments[0], 200)")


def click_at(browser, left, top):
    move_to(browser, left, top)
    for kind in ("mousePressed", "mouseReleased"):
        event = {"type": kind, "x": left, "y": top, "button": "left", "clickCount": 1}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    browser.execute_async_script("setTimeout(arguments[0], 400)")


def lonely(browser, number=0):
    """The trial of a run that is drawn farthest from all others, with its place."""
    points = drawn(browser)

    def distance(which):
        _, _, x, y = points[which]
        return min((x - a) ** 2 + (y - b) ** 2 for w, (_, _, a, b) in points.items() if w != which)

    which = max((w for w in points if w[0] == number), key=distance)
    return which, points[which][2:]


def data(browser):
    return browser.execute_script("return report")


def choose(browser, selector, value):
    browser.execute_script(
        "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event('change'))",
        selector, value,
    )  # fmt: skip


def test_it_runs_without_a_complaint_and_asks_no_network(show):
    browser = show("one")
    assert browser.get_log("browser") == []
    asked = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"].partition(":")[0])
    assert asked <= {"file", "data", "blob"}


def test_hovering_shows_the_trial(show):
    browser = show("one")
    (_, trial), place = lonely(browser)
    move_to(browser, *place)
    shown = text(browser, "#front .hoverlayer")
    expected = data(browser)["runs"][0]["trials"][trial]
    assert expected["id"] in shown
    assert f"trial {expected['values']['trial']}" in shown


def test_clicking_shows_measurements_architecture_and_command(show, run):
    browser = show("one")
    (_, trial), place = lonely(browser)
    expected = data(browser)["runs"][0]["trials"][trial]
    assert text(browser, ".details .id") != expected["id"], "the knee is shown at first"
    click_at(browser, *place)
    assert text(browser, ".details .id") == expected["id"]
    cells = browser.execute_script(
        "return [...document.querySelectorAll('.details:not([hidden]) td')].map(c => c.textContent)"
    )
    assert cells == expected["texts"]
    *command, picked = shlex.split(text(browser, ".details code"))
    assert command == ["nasbench", "export", str(run.folder), "--pick"]
    architecture = run.select(pick=picked).architecture
    for number, dimension in enumerate(run.select(pick=picked).architecture):
        shown = text(browser, f".diagram [data-dimension='{number}'] b")
        assert shown in (str(architecture[dimension]), "-")
    is_absent = browser.execute_script(
        "return [...document.querySelectorAll('.block')].map(b => b.classList.contains('absent'))"
    )
    assert is_absent == [False, architecture["stage1.depth"] == 1]


def test_a_filter_leaves_what_fits(show):
    browser = show("one")
    before, top_before = drawn(browser), top_of_front(browser)
    bound = sorted(x for x, *_ in before.values())[len(before) // 2]
    choose(browser, "#bound-axis", "latency_ms")
    browser.find_element("id", "bound").send_keys(str(bound))
    browser.find_element("id", "add-bound").click()
    after = drawn(browser)
    assert after.keys() == {which for which, (x, *_) in before.items() if x <= bound}
    assert text(browser, "#num-shown") == f"{len(after)} of {len(before)} sub-networks"
    moved_down = top_of_front(browser) - top_before  # by the line that the filter is written on
    for which, (*_, left, top) in after.items():
        assert (left, top - moved_down) == pytest.approx(before[which][2:], abs=1)
    browser.find_element("css selector", "#bounds button").click()
    assert drawn(browser).keys() == before.keys()


def test_axes_can_be_chosen(show):
    browser = show("one")
    choose(browser, "#x-axis", "num_macs")
    choose(browser, "#y-axis", "test:top1_accuracy")
    assert text(browser, "#front .xtitle") == "multiply-accumulates"
    assert text(browser, "#front .ytitle") == "top-1 accuracy on test data [%]"
    trials = data(browser)["runs"][0]["trials"]
    tested = {(0, i) for i, trial in enumerate(trials) if "test:top1_accuracy" in trial["values"]}
    assert drawn(browser).keys() == tested, "only the front was tested"


def test_the_table_chooses_by_keyboard(show):
    from selenium.webdriver.common.keys import Keys

    browser = show("one")
    last = browser.find_elements("css selector", ".choose")[-1]
    last.send_keys(Keys.ENTER)
    assert text(browser, ".details .id") == last.text
    assert last.get_attribute("aria-pressed") == "true"


def test_the_command_can_be_copied(show):
    browser = show("one")
    for name in ("clipboardReadWrite", "clipboardSanitizedWrite"):
        with suppress(Exception):  # the name of the permission depends on the browser's version
            browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": [name]})
    browser.find_element("css selector", ".details .copy").click()
    browser.execute_async_script("setTimeout(arguments[0], 200)")
    selected = browser.execute_script("return window.getSelection().toString()")
    is_copied = text(browser, ".details .copy") == "Copied"
    assert is_copied or selected == text(browser, ".details code")


@pytest.mark.parametrize(("width", "is_phone"), [(1200, False), (390, True)])
@pytest.mark.parametrize("name", ["one", "two"])
def test_nothing_moves_while_it_loads_and_nothing_sticks_out(show, name, width, is_phone):
    browser = show(name, width, 800, is_phone)
    moved = browser.execute_async_script(
        """
        const [done] = arguments;
        let sum = 0;
        new PerformanceObserver((list) => list.getEntries().forEach((e) => { sum += e.value; }))
          .observe({ type: "layout-shift", buffered: true });
        setTimeout(() => done(sum), 200);
        """
    )
    assert moved < 0.01
    wide, seen = browser.execute_script(
        "const { scrollWidth, clientWidth } = document.documentElement;"
        "return [scrollWidth, clientWidth]"
    )
    assert wide <= seen


def test_paper_has_the_figures_in_its_width_and_no_controls(show):
    browser = show("one")
    width = "return document.querySelector('#front .main-svg').clientWidth"
    on_screen = browser.execute_script(width)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(width) == 640
    for figure in browser.find_elements("css selector", ".pair .main-svg:first-child"):
        assert int(figure.get_attribute("width")) == 312, "two beside each other"
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    browser.execute_async_script("setTimeout(arguments[0], 200)")
    assert browser.execute_script(width) == on_screen
    printed = browser.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.find_element("id", "controls").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_hostile_name_is_text(show):
    browser = show("two")
    assert browser.execute_script("return window.hacked") is None
    assert browser.get_log("browser") == [], "nor was anything of it tried and blocked"
    assert HOSTILE in text(browser, "header")
    assert HOSTILE in text(browser, "title")
    assert HOSTILE in text(browser, "#front .legend")
    assert not browser.find_elements("css selector", "img")
    which, place = lonely(browser, number=1)
    click_at(browser, *place)
    expected = data(browser)["runs"][1]["trials"][which[1]]
    assert text(browser, ".details[data-run='1'] .id") == expected["id"]
    assert HOSTILE in shlex.split(text(browser, ".details[data-run='1'] code"))[2]
    shown = {text(browser, ".diagram[data-run='1'] [data-dimension='4'] b")}
    assert shown <= {HOSTILE, "relu"}
    assert browser.execute_script("return window.hacked") is None
