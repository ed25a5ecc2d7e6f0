"""What a stranger, a broken page or a hostile bundle can do: nothing."""

from __future__ import annotations

import json
import random
import shutil
import urllib.error
import urllib.request

import pytest

from neurochains.circuits import Bundle
from neurochains.errors import ArtifactError
from neurochains.explorer import explore, ids
from neurochains.explorer.guard import LIMIT
from neurochains.explorer.parts import PARTS
from neurochains.explorer.parts import part as part_of

SECRETS = ("root:x:", "neurochains.bundle", "secret of the test")


def ask(url, data=None, **headers):
    """The status and body of an answer."""
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


@pytest.fixture(scope="module")
def running(prepared, network):
    with explore(prepared, model=network, port=0) as explorer:
        yield explorer


@pytest.fixture(scope="module")
def callbacks(running):
    """The callbacks of the page, as it declares them to the browser."""
    return json.loads(ask(f"{running.url}_dash-dependencies")[1])


def call(running, entry, values):
    """Call a callback of the page with values of one's own."""
    multi = entry["output"].startswith("..")
    outputs = [dict(zip(("id", "property"), part.rsplit(".", 1))) for part in entry["output"].strip(".").split("...")]
    named = iter(values)
    body = {
        "output": entry["output"],
        "outputs": outputs if multi else outputs[0],
        "changedPropIds": [f"{part['id']}.{part['property']}" for part in entry["inputs"][:1]],
        "inputs": [{**part, "value": next(named)} for part in entry["inputs"]],
        "state": [{**part, "value": next(named)} for part in entry["state"]],
    }
    data = json.dumps(body).encode()
    return ask(f"{running.url}_dash-update-component", data, **{"Content-Type": "application/json"})


ADDRESSES = (
    "", "../../etc/passwd", "?image=../../etc/passwd", "?unit=%00&kernel=a[1]<9999999", "?image=99999.99999",
    "?expression=__import__('os').system('id')", "?unit=features.0[9999999]", "?layers=nowhere&target=logit:99999",
    "?off=block:nowhere&off=features.0[1]<99&panel=ablation", "?chains=7&chains=9", "?expression=((((((((((",
    "?criterion=nothing&target=L99_1@max", "?image=upload&panel=image", "?normalise=layer-sum&graph=2d",
)  # fmt: skip
GARBAGE = (
    *ADDRESSES, None, 0, -1, 1e308, True, [], {}, [[]], {"a": 1}, {"points": [{"customdata": 1e9}]}, "x" * 100_000,
    "data:image/png;base64,AAAA", "file:///etc/passwd", "\x00",
)  # fmt: skip


def plain(callbacks):
    """The callbacks that run on the server at once, without those of many alike."""
    found = [entry for entry in callbacks if entry["clientside_function"] is None and not entry.get("background")]
    return [entry for entry in found if not any("{" in part["id"] for part in entry["inputs"])]


def test_no_address_breaks_a_panel(running, callbacks):
    known = (ids.URL, *map(part_of, PARTS))
    for entry in plain(callbacks):
        parts = (*entry["inputs"], *entry["state"])
        if any(part["id"] in map(part_of, PARTS) for part in entry["inputs"]):
            for address in ADDRESSES:
                status, _ = call(running, entry, [address if part["id"] in known else None for part in parts])
                assert status in (200, 204), (entry["output"], address)


def test_no_callback_gives_away_a_file_or_breaks_the_server_whatever_it_is_sent(running, callbacks):
    dice = random.Random(0)
    assert len(plain(callbacks)) > 20
    for entry in plain(callbacks):
        for _ in range(3):
            count = len(entry["inputs"]) + len(entry["state"])
            status, body = call(running, entry, [dice.choice(GARBAGE) for _ in range(count)])
            assert status in (200, 204, 500)
            assert not any(secret in body for secret in SECRETS)
            assert "Traceback" not in body
    assert ask(running.url)[0] == 200


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b'{"output": "x.y"}', b"\xff\xfe", b"[" * 100_000])
def test_requests_that_are_no_callback_are_refused(running, data):
    status, body = ask(f"{running.url}_dash-update-component", data, **{"Content-Type": "application/json"})
    assert status >= 400
    assert "Traceback" not in body
    assert ask(running.url)[0] == 200


def test_requests_that_are_too_large_are_not_read(running):
    headers = {"Content-Type": "application/json", "Content-Length": str(LIMIT + 1)}
    assert ask(f"{running.url}_dash-update-component", b"{}", **headers)[0] == 413


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2f..%2fetc%2fpasswd", "assets/..%2f..%2fserve.py", "assets//etc/passwd", "%2e%2e/bundle.json",
        "_dash-component-suites/dash/../../../etc/passwd", "_dash-component-suites/neurochains/explorer/serve.py",
        "assets/..%5c..%5cserve.py", "bundle.json", "sets/0/pictures.bin",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(running, path):
    status, body = ask(f"{running.url}{path}")
    assert status >= 400 or "<html" in body
    assert not any(secret in body for secret in SECRETS)
    assert "def explore" not in body


def test_every_address_asks_for_the_token(prepared, network):
    with explore(prepared, model=network, host="0.0.0.0", port=0) as explorer:
        here = f"http://127.0.0.1:{explorer.port}/"
        for path in ("", "_dash-layout", "_dash-dependencies", "alive", "assets/explorer.js", "assets/explorer.css"):
            assert ask(f"{here}{path}")[0] == 403
            assert ask(f"{here}{path}", Cookie="neurochains-explorer=")[0] == 403
        assert ask(f"{here}_dash-update-component", b"{}")[0] == 403


def test_what_another_page_of_this_machine_sends_is_refused(running):
    body = json.dumps({"output": "x.y"}).encode()
    assert ask(f"{running.url}_dash-update-component", body, Origin="http://127.0.0.1:1")[0] == 403
    assert ask(f"{running.url}_dash-update-component", body, Origin="null")[0] == 403


def test_names_of_a_bundle_are_text_on_the_page(running):
    layout = json.dumps(json.loads(ask(f"{running.url}_dash-layout")[1]))
    assert "<b>wolf</b>" in layout  # a value of a property, which the browser shows as text
    assert "dangerously" not in layout
    assert "<b>wolf</b>" not in ask(running.url)[1]


def test_nothing_of_the_explorer_is_pickled(running, tmp_path):
    from pathlib import Path

    import neurochains.explorer as package

    sources = "".join(file.read_text() for file in Path(package.__file__).parent.glob("*.py"))
    assert "import pickle" not in sources
    assert type(running._worker.handle.disk).__name__ == "JSONDisk"


@pytest.mark.parametrize(
    ("file", "data"), [("bundle.json", b"{"), ("bundle.json", b"\x80\x04}."), ("bundle.json", b'{"kind": "other"}')]
)
def test_a_bad_bundle_is_refused_in_words(prepared, tmp_path, file, data):
    place = shutil.copytree(prepared, tmp_path / "bundle")
    (place / file).write_bytes(data)
    with pytest.raises(ArtifactError):
        explore(place, port=0)


def test_files_that_go_while_it_runs_are_told(prepared, network, tmp_path):
    place = shutil.copytree(prepared, tmp_path / "bundle")
    with explore(Bundle.open(place), model=network, port=0) as explorer:
        shutil.rmtree(place)
        entries = json.loads(ask(f"{explorer.url}_dash-dependencies")[1])
        entry = next(entry for entry in entries if "filter-crops" in entry["output"])
        names = [part["id"] for part in (*entry["inputs"], *entry["state"])]
        unit = explorer_unit(network)
        values = [f"?unit={unit}" if name.startswith(("part", "url")) else None for name in names]
        status, body = call(explorer, entry, values)
        assert status == 200
        assert "Alert" in body or "in its layer" in body


def explorer_unit(network):
    return f"{network.scored()[1].name}[1]"
