"""The running explorer: who may ask, what is served, what happens when something is missing."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.error
import urllib.request

import pytest

from neurochains.circuits import Bundle
from neurochains.errors import ArtifactError, ModelError, SettingsError
from neurochains.explorer import explore


def ask(url, **headers):
    """The status, headers and body of an answer."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args):
        return None


@pytest.fixture(scope="module")
def running(prepared, network):
    with explore(prepared, model=network, port=0) as explorer:
        yield explorer


def test_the_page_and_its_layout_are_served_and_load_nothing_from_elsewhere(running):
    status, headers, page = ask(running.url)
    assert status == 200
    assert running.url.startswith("http://127.0.0.1:")
    assert b"https://" not in page.replace(b"https://dash.plotly.com", b"")
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    status, _, layout = ask(f"{running.url}_dash-layout")
    assert status == 200
    assert "&lt;" not in layout.decode()
    assert json.loads(layout)


def test_pages_of_other_names_and_origins_may_not_ask(running):
    assert ask(running.url, Host="evil.example")[0] == 403
    assert ask(f"{running.url}_dash-layout", Origin="http://evil.example")[0] == 403
    assert ask(running.url, Host=f"localhost:{running.port}")[0] == 200


@pytest.mark.parametrize("path", ["bundle.json", "assets/../app.py", "assets/%2e%2e/app.py", "..%2f..%2fetc/passwd"])
def test_no_file_but_the_pages_own_is_served(running, path):
    status, _, body = ask(f"{running.url}{path}")
    assert status != 200 or b"<html" in body
    assert b"neurochains.bundle" not in body
    assert b"root:" not in body


def test_elsewhere_a_token_is_asked_for_once(prepared, network):
    with explore(prepared, model=network, host="0.0.0.0", port=0) as explorer:
        here = f"http://127.0.0.1:{explorer.port}/"
        assert "?token=" in explorer.url
        assert ask(here)[0] == 403
        assert ask(f"{here}?token=wrong")[0] == 403
        status, headers, _ = ask(f"{here}?token={explorer.url.partition('token=')[2]}&expression=tiger")
        assert (status, headers["Location"]) == (302, "/?expression=tiger")
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert "HttpOnly" in headers["Set-Cookie"]
        assert ask(here, Cookie=cookie)[0] == 200


def test_a_taken_port_is_said_and_another_found_where_none_was_asked_for(prepared, network):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="is taken by another program"):
            explore(prepared, model=network, port=taken.getsockname()[1])


def test_a_bundle_that_goes_is_noticed_and_one_that_is_none_is_refused(prepared, network, tmp_path):
    with pytest.raises(ArtifactError, match="holds no bundle"):
        explore(tmp_path)
    place = shutil.copytree(prepared, tmp_path / "bundle")
    with explore(Bundle.open(place), model=network, port=0) as explorer:
        assert json.loads(ask(f"{explorer.url}alive")[2])["trouble"] == ""
        shutil.rmtree(place)
        assert "not there any more" in json.loads(ask(f"{explorer.url}alive")[2])["trouble"]


def test_a_closed_explorer_is_gone_and_leaves_no_files(prepared, network):
    explorer = explore(prepared, model=network, port=0)
    folder = explorer._folder.name
    assert explorer.url in explorer._repr_html_()
    explorer.close()
    with pytest.raises(urllib.error.URLError):
        ask(explorer.url)
    assert not shutil.os.path.exists(folder)


def test_a_missing_extra_is_named(prepared, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "diskcache" else object())
    with pytest.raises(ModelError, match=r"needs diskcache: pip install 'neurochains\[explorer\]'"):
        explore(prepared)
