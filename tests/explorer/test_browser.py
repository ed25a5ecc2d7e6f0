"""The page as a person uses it: type, click, drop, go back, reload, and look at what came."""

from __future__ import annotations

import importlib.util
import threading

import pytest
import torch
from benchmarks.browser import find_chromium, page, settle

from neurochains.chains import Chain, Scores
from neurochains.circuits import Bundle, prepare
from neurochains.data import Task
from neurochains.explorer.view import View
from neurochains.network import Network, load_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium is installed"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    from neurochains.explorer import explore

    model, task = load_model("shapes:vgg"), Task.shapes(32)
    place = prepare(model, task, tmp_path_factory.mktemp("bundles") / "shapes", projection="pca").folder.place
    network = Network.trace(model, task.images[:1])
    dice = torch.Generator().manual_seed(0)
    halves = [{x.name: (torch.rand(x.units, generator=dice) > 0.4).float() for x in network.scored()} for _ in "ab"]
    chains = [Chain(network, task, Scores(units)) for units in halves]
    with explore(Bundle.open(place), model=model, chains=chains, port=0) as explorer:
        yield explorer


@pytest.fixture(scope="module")
def opened(running):
    with page() as (made, wrong):
        made.goto(f"{running.url}?graph=2d&unit=features.3[5]", wait_until="commit")
        made.wait_for_selector("#filter-head h2")
        yield made, wrong


def open_panel(made, name):
    made.get_by_role("tab", name=name).click()
    settle(made)


def test_a_link_shows_its_view(opened):
    made, _ = opened
    made.wait_for_function("document.getElementById('graph-said').innerText.includes('of 520 filters')")
    assert made.locator("#filter-head h2").inner_text() == "L3_5"
    assert made.locator("#filter-crops .tile").count() > 0


def test_a_query_runs_when_asked_and_goes_back(opened):
    made, _ = opened
    made.locator("#expression").fill('"red striped disc" - overall')
    assert "expression" not in made.url
    made.get_by_role("button", name="Run the query").click()
    made.wait_for_url("**expression=**")
    settle(made)
    assert "score above 0" in made.locator("#query-said").inner_text()
    made.go_back(wait_until="commit")
    made.wait_for_function("document.getElementById('expression').value === 'overall'")


def test_an_address_is_changed_in_the_browser_as_the_server_reads_it(opened):
    made, _ = opened
    view = View(expression="red (or) ~blue*", filters=0.35, layers=("a.b", "c"), off=("a[1]", "a[2]<0"), relu="on")
    cases = {
        "objective": ("choose_objective('centre-', s)", view.having(objective="centre-")),
        "undo": ("undo(1, s)", view.having(off=("a[1]",))),
        "restore": ("restore(1, s)", view.having(off=())),
        "cell": ("cell({points: [{x: 3, y: 4}]}, s)", view.having(cell="4.3")),
        "run": ("run(1, 0, ' tiger ', '', null, ['a'], 'grid', 'none', s)[0]",
                view.having(expression="tiger", layers=("a",), projection="grid")),
    }  # fmt: skip
    for name, (call, wanted) in cases.items():
        found = made.evaluate(f"(s) => window.dash_clientside.explorer.{call}", view.search())
        assert View.parse(found) == wanted, name
    stay = "(s) => dash_clientside.explorer.rectify(true, s) === dash_clientside.no_update"
    assert made.evaluate(stay, view.search())


def test_the_last_ten_queries_are_remembered_once_each(opened):
    made, _ = opened
    history: list[str] = []
    for number in [*range(12), 11]:
        search = View(expression=f"q{number}", unit="a[1]").search()
        history = made.evaluate("(a) => window.dash_clientside.explorer.remember(...a)", [search, history])
    assert history == [View(expression=f"q{number}").search() for number in range(11, 1, -1)]


def test_a_mistake_is_shown_under_its_place(opened):
    made, _ = opened
    made.locator("#expression").fill("red - tigre")
    made.get_by_role("button", name="Run the query").click()
    made.wait_for_selector("#query-said [role=alert]")
    assert "^" in made.locator("#query-said pre").inner_text()
    made.locator("#expression").fill("overall")
    made.get_by_role("button", name="Run the query").click()
    made.wait_for_selector("#query-said [role=alert]", state="detached")


def test_a_cell_of_the_map_outlines_what_it_sees(opened):
    made, _ = opened
    made.locator("#filter-map .nsewdrag").click(position={"x": 60, "y": 60})
    made.wait_for_url("**cell=**")
    made.wait_for_function("document.getElementById('filter-cell').innerText.includes('sees rows')")


def test_kernels_lead_from_filter_to_filter(opened):
    made, _ = opened
    made.locator("#filter-kernels button[aria-label^='Go to']").first.click()
    made.wait_for_function("document.querySelector('#filter-head h2').innerText !== 'L3_5'")
    made.locator("#filter-kernels button[aria-label^='Open kernel']").first.click()
    made.wait_for_selector("#kernel-matrix .heatmaplayer")


def test_a_dropped_picture_is_answered_and_a_bad_one_refused(opened, tmp_path):
    from PIL import Image

    made, _ = opened
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (90, 70), "red").save(good)
    bad.write_bytes(b"no picture")
    open_panel(made, "Image")
    made.locator("#drop input[type=file]").set_input_files(bad)
    made.wait_for_selector("#image-said [role=alert]")
    made.locator("#drop input[type=file]").set_input_files(good)
    made.wait_for_function("document.getElementById('image-shown').innerText.includes('your picture')")
    assert "image=upload" in made.url


def test_blocks_go_off_and_come_back(opened):
    made, _ = opened
    open_panel(made, "Ablation")
    made.locator("#ablation-list").wait_for()
    made.get_by_role("button", name="L10", exact=True).click()
    made.wait_for_selector("#ablation-bars .barlayer")
    made.wait_for_selector("#ablation-scores table")
    assert "carry" in made.locator("#ablation-scores").inner_text()
    made.get_by_role("button", name="Undo").click()
    made.wait_for_function("document.getElementById('ablation-result').innerText.includes('whole')")


def test_a_reload_changes_nothing(opened):
    made, _ = opened
    address = made.url
    made.reload(wait_until="commit")
    made.wait_for_selector("#ablation-result p")
    assert made.url == address
    assert made.get_by_role("tab", name="Ablation").get_attribute("aria-selected") == "true"


def test_a_chain_shows_its_paths_and_two_are_parted(opened):
    made, _ = opened
    open_panel(made, "Chains")
    made.locator("#chain-pick").click()
    made.get_by_role("option", name="chain 1").click()
    made.wait_for_selector("#chain-shown button[aria-label^='Go to']")
    assert "Path 1" in made.locator("#chain-shown").inner_text()
    made.get_by_role("option", name="chain 2").click()
    made.wait_for_selector("#chain-shown table")
    made.wait_for_function("document.getElementById('marks').innerText.includes('only in chain 2')")
    made.keyboard.press("Escape")


def test_a_box_weighs_filters_and_switches_them_off(opened, running):
    made, _ = opened
    made.goto(f"{running.url}?graph=2d", wait_until="commit")
    made.wait_for_selector("#graph .scatterlayer")
    settle(made)
    made.locator('#graph .modebar-btn[data-title="Box Select"]').click()
    plot = made.locator("#graph .nsewdrag").bounding_box()
    made.mouse.move(plot["x"] + 0.3 * plot["width"], plot["y"] + 0.3 * plot["height"])
    made.mouse.down()
    made.mouse.move(plot["x"] + 0.6 * plot["width"], plot["y"] + 0.6 * plot["height"], steps=4)
    made.mouse.up()
    made.wait_for_selector("#boxed-off")
    assert "of the score" in made.locator("#boxed").inner_text()
    made.locator("#boxed-off").click()
    made.wait_for_url("**off=**")
    made.get_by_role("tab", name="Ablation", selected=True).wait_for()


def test_a_measured_query_can_be_cancelled_and_asked_again(opened, monkeypatch):
    from neurochains.explorer import asking

    go_on = threading.Event()  # measuring is not over before it is cancelled
    exact = asking.importance_vectors
    monkeypatch.setattr(asking, "importance_vectors", lambda *a, **k: (go_on.wait(60), exact(*a, **k))[1])
    made, _ = opened
    made.locator("#target").fill("logit:3")
    made.locator("#target").press("Tab")
    made.get_by_role("button", name="Run the query").click()
    made.wait_for_selector("#cancel:not([disabled])")
    made.locator("#cancel").click()
    made.wait_for_function("document.getElementById('working').innerText.includes('Cancelled')")
    go_on.set()
    made.get_by_role("button", name="Run the query").click()
    made.wait_for_function(
        "document.getElementById('query-said').innerText.includes('score above 0')"
        " && document.getElementById('working').innerText === ''"
    )
    assert "target=logit" in made.url


@pytest.mark.parametrize(
    ("item", "start"),
    [
        ("Ranking of filters", b"rank,label"),
        ("Figures that are shown (PNG)", b"\x89PNG"),
        ("This view", b"<!doctype html"),
    ],
)
def test_what_is_shown_can_be_saved(opened, tmp_path, item, start):
    made, _ = opened
    made.get_by_role("button", name="Save", exact=True).click()
    with made.expect_download() as coming:
        made.get_by_role("menuitem", name=item).click()
    coming.value.save_as(tmp_path / "saved")
    settle(made)
    saved = (tmp_path / "saved").read_bytes()
    assert saved.startswith(start)
    assert b"the open panel -->" not in saved


def test_the_network_in_space_is_drawn(opened):
    made, _ = opened
    made.locator("#graph-kind").get_by_text("Network 3-D").click()
    made.wait_for_selector("#graph canvas")
    settle(made)
    traces = made.evaluate("document.querySelector('#graph .js-plotly-plot').data.length")
    assert 2 <= traces <= 6


def test_every_control_has_a_name_and_nothing_went_wrong(opened):
    made, wrong = opened
    nameless = made.evaluate(
        "[...document.querySelectorAll('button, input:not([type=hidden]):not([type=file])')].filter(e => e.offsetParent"
        " && !(e.textContent || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.title"
        " || (e.labels && e.labels.length))).map(e => e.outerHTML.slice(0, 120))"
    )
    assert nameless == []
    assert [error for error in wrong if "net::ERR_ABORTED" not in error] == []
