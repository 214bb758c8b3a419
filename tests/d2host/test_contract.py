"""Both hosts keep the same contract, each in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONTRACT = Path(__file__).with_name("contract.py")


def run(code_or_file, host, *arguments, cwd=None):
    environment = {**os.environ, "D2HOST": host}
    command = [
        sys.executable,
        *(["-c", code_or_file] if "\n" in code_or_file or " " in code_or_file else [code_or_file]),
    ]
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, cwd=cwd)


def has_detectron2():
    spec = importlib.util.find_spec("detectron2")
    return spec is not None and spec.origin is not None


@pytest.mark.parametrize("host", ["embedded", "detectron2"])
def test_the_host_keeps_the_contract(host, tmp_path):
    if host == "detectron2" and not has_detectron2():
        pytest.skip("detectron2 is not installed here")
    result = run(str(CONTRACT), host, str(tmp_path))
    assert f"contract holds on {host}" in result.stdout, result.stdout + result.stderr


def test_auto_takes_detectron2_where_it_is_installed_and_leaves_the_environment_alone():
    result = run("import os, d2host; print(d2host.HOST.name, os.environ['D2HOST'])", "auto")
    assert result.stdout.split() == ["detectron2" if has_detectron2() else "embedded", "auto"], result.stderr


def test_the_seam_and_what_configs_are_read_with_import_no_torch_and_resolve_no_host():
    modules = "d2host, d2host.engine.errors, d2host.engine.atomic, d2host.engine.config_file, d2host.engine.command"
    code = f"import sys, {modules}; print('torch' in sys.modules, 'detectron2' in sys.modules, 'HOST' in vars(d2host))"
    assert run(code, "nonsense").stdout.split() == ["False", "False", "False"]


def test_the_embedded_host_reads_a_config_without_torch():
    code = "import sys, d2host; d2host.get_cfg(); d2host.DatasetCatalog; print('torch' in sys.modules)"
    assert run(code, "embedded").stdout.split() == ["False"]


def test_a_process_that_resolves_another_host_than_its_starter_is_refused():
    result = run("from d2host.resolve import require_host; require_host('detectron2')", "embedded")
    assert "resolves the host 'embedded', the one that started it 'detectron2'" in result.stderr


def test_a_mere_checkout_in_the_working_directory_does_not_count(tmp_path):
    if has_detectron2():
        pytest.skip("detectron2 is installed here, so a checkout is not looked at")
    (tmp_path / "detectron2" / "configs").mkdir(parents=True)
    result = run("import d2host; print(d2host.HOST.name)", "auto", cwd=tmp_path)
    assert result.stdout.split() == ["embedded"], result.stderr


def test_a_broken_detectron2_raises_its_own_error(tmp_path):
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text("raise RuntimeError('built for another torch')")
    result = run("import sys; sys.path[:0] = ['.']; import d2host; print(d2host.HOST)", "auto", cwd=tmp_path)
    assert result.returncode != 0 and "built for another torch" in result.stderr


def test_an_unknown_choice_names_the_variable_and_the_choices():
    result = run("import d2host; print(d2host.HOST)", "detectron")
    assert "D2HOST='detectron' is not a host: set it to one of auto, detectron2, embedded" in result.stderr


def test_a_missing_detectron2_that_is_asked_for_is_an_error():
    if has_detectron2():
        pytest.skip("detectron2 is installed here")
    result = run("import d2host; print(d2host.HOST)", "detectron2")
    assert "D2HOST=detectron2, but detectron2 is not installed here" in result.stderr
