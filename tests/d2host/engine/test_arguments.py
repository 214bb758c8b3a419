import argparse
import os
import subprocess
import sys

import pytest

from d2host.engine import arguments

NO_NUMBERS = ["", " ", "ten", "nan", "inf", "1e400", "0x10", "1,5", "9" * 5000]


@pytest.mark.parametrize("text", [*NO_NUMBERS, "-1", "1.5", "1" + "0" * 30])
@pytest.mark.parametrize("kind", ["positive", "count", "seed", "side", "length", "processes", "workers"])
def test_whole_numbers_are_whole_and_within_limits(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no whole number"):
        getattr(arguments, kind)(text)
    assert getattr(arguments, kind)("7") == 7


def test_zero_is_a_count_and_no_positive_number():
    assert arguments.count("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match="'0' is no whole number of at least 1"):
        arguments.positive("0")


@pytest.mark.parametrize("text", [*NO_NUMBERS, "-0.1", "1", "-inf"])
def test_numbers_are_finite_and_within_limits(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"is no number in \[0, 1\)"):
        arguments.number(0, 1)(text)
    assert arguments.number(0, 1)("0") == 0


def test_a_limit_may_be_left_out():
    with pytest.raises(argparse.ArgumentTypeError, match=r"in \(0, inf\)"):
        arguments.number(0, above=True)("0")


@pytest.mark.parametrize("text", ["", "foo", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:1\n", "cuda:9999"])
def test_devices_have_names(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no device"):
        arguments.device(text)


@pytest.fixture
def odd(tmp_path):
    """Paths by what is there."""
    (tmp_path / "file").write_text("content")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    names = ["file", "folder", "dangling", "loop", "pipe", "gone", "file/below", "loop/below", "n" * 5000]
    return {name: str(tmp_path / name) for name in names} | {"empty": "", "blank": " ", "device": "/dev/null"}


READ = {"existing_file": {"file"}, "existing_folder": {"folder"}, "existing_path": {"file", "folder"}}
WRITTEN = {"output_folder": {"folder", "gone"}, "output_file": {"file", "gone"}}


@pytest.mark.parametrize("kind", [*READ, *WRITTEN])
def test_paths_are_what_they_are_needed_for(kind, odd, tmp_path):
    parse = arguments.output_file() if kind == "output_file" else getattr(arguments, kind)
    before = sorted(tmp_path.iterdir())
    taken = set()
    for name, path in odd.items():
        try:
            parse(path)
            taken.add(name)
        except argparse.ArgumentTypeError as error:
            assert "\n" not in str(error)
    assert taken == (READ | WRITTEN)[kind]
    assert sorted(tmp_path.iterdir()) == before


def test_files_are_written_with_the_endings_that_are_known(tmp_path):
    parse = arguments.output_file(".pt2", ".onnx")
    assert parse(str(tmp_path / "deep" / "model.ONNX")).name == "model.ONNX"
    with pytest.raises(argparse.ArgumentTypeError, match=r"has to end in \.pt2 or \.onnx"):
        parse(str(tmp_path / "model.pth"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_nothing_is_written_where_that_is_forbidden(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(argparse.ArgumentTypeError, match="cannot be written to"):
        arguments.output_folder(str(tmp_path / "new"))


def test_kinds_import_no_torch():
    code = "import sys; from d2host.engine import arguments; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
