"""`neurochains explore`: what it refuses, and that it serves what it says, until it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request

import pytest

from neurochains.cli.app import run

pytest.importorskip("dash_mantine_components", reason="the extra 'explorer' is not installed")

START = "from neurochains.cli import main; main()"


def test_a_folder_without_a_bundle_is_refused(tmp_path, capsys):
    assert run(["explore", str(tmp_path), "--no-browser"]) == 2
    assert "holds no bundle" in capsys.readouterr().err


def test_weights_without_a_model_say_nothing(tmp_path, capsys):
    assert run(["explore", str(tmp_path), "--weights", "w.safetensors"]) == 2
    assert "Name the model as well" in capsys.readouterr().err


@pytest.mark.slow
def test_it_serves_a_bundled_network_until_it_is_interrupted():
    command = [sys.executable, "-c", START, "explore", "--no-browser", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        said = ""
        while "}" not in said:
            line = server.stdout.readline()
            assert line
            said += line
        with urllib.request.urlopen(json.loads(said)["url"], timeout=60) as answer:
            assert b"NeuroChains" in answer.read()
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
