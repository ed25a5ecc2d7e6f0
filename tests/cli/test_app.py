from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

import neurochains
from neurochains.chains.objectives import OBJECTIVES
from neurochains.cli.app import main
from neurochains.cli.options import MethodName, ObjectiveName, ScoreRange, UnitsName
from neurochains.extraction.options import METHODS, RANGES, UNITS

COMMANDS = ("demo", "doctor", "extract", "report", "show", "onnx")


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, json, neurochains.cli\n"
        "try: neurochains.cli.main(['--help'])\n"
        "except SystemExit as end: json.dump([end.code, sorted(sys.modules)], sys.stderr)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended, modules = json.loads(done.stderr)
    assert ended == 0
    assert not {"torch", "numpy", "matplotlib", "PIL"} & set(modules)
    assert all(name in done.stdout for name in COMMANDS)
    assert after.ru_utime - before.ru_utime < 0.5  # time on the processor: other work on the machine does not count


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, command):
    shown = command(name, "--help")
    assert shown.code == 0
    assert "--help" in shown.out
    assert shown.err == ""


def test_version(command):
    assert command("--version").out == f"neurochains {neurochains.__version__}\n"


def test_no_command_shows_the_help(command):
    shown = command()
    assert shown.code == 2
    assert "extract" in shown.out


def test_a_misspelt_command_is_bad_usage_with_a_suggestion(command):
    shown = command("extrct")
    assert (shown.code, shown.out) == (2, "")
    assert "No such command 'extrct'. Did you mean 'extract'?" in shown.err


def test_a_misspelt_option_is_bad_usage_with_a_suggestion(command):
    shown = command("extract", "--clases", "a")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith("Usage: neurochains extract")
    assert "--clases" in shown.err.splitlines()[-1]
    assert "--classes" in shown.err.splitlines()[-1]


def test_a_missing_option_is_named(command):
    shown = command("extract", "--images", "photos", "--out", "runs/a")
    assert shown.code == 2
    assert "--model" in shown.err


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_may_stand_anywhere(place, command):
    args = ["doctor", "--model", "shapes:nothing"]
    shown = command(*args[:place], "--debug", *args[place:])
    assert shown.code == 2
    assert "Traceback" in shown.err
    assert "Traceback" not in command(*args).err


def test_an_interrupt_anywhere_ends_with_130(command, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("neurochains.network.load_model", interrupt)
    shown = command("doctor", "--model", "shapes:vgg")
    assert (shown.code, shown.err) == (130, "interrupted: nothing was written.\n")
    monkeypatch.setattr("neurochains.cli.extract.check_folder", interrupt)
    shown = command("extract", "--model", "shapes:vgg", "--images", "photos", "--out", "runs/a")
    assert (shown.code, shown.err) == (130, "interrupted.\n")


def test_the_unexpected_ends_with_1(command, monkeypatch):
    def fail(*_args, **_kwargs):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("neurochains.network.load_model", fail)
    shown = command("doctor", "--model", "shapes:vgg")
    assert (shown.code, shown.err.splitlines()[0]) == (1, "error: ZeroDivisionError: by zero")


def test_main_ends_the_process_with_the_code():
    with pytest.raises(SystemExit) as end:
        main(["--nothing"])
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("choices", "known"), [(ObjectiveName, OBJECTIVES), (MethodName, METHODS), (ScoreRange, RANGES), (UnitsName, UNITS)]
)
def test_the_choices_are_those_of_the_extraction(choices, known):
    assert {choice.value for choice in choices} == set(known)


@pytest.mark.parametrize(("given", "wanted"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_leave_the_cores_to_others_unless_told_otherwise(command, monkeypatch, given, wanted):
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert command("--version").code == 0
    assert os.environ["OMP_WAIT_POLICY"] == wanted
