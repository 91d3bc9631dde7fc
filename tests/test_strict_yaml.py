import math

import pytest

from analogmed.config import Experiment
from analogmed.errors import ConfigError
from analogmed.strict_yaml import check_keys, read_yaml


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        return path

    return write


def test_python_objects_are_refused_with_file_and_line_and_never_built(written, tmp_path):
    victim = tmp_path / "was_here"
    path = written(f'seed: 1\nname: !!python/object/apply:os.mkdir ["{victim}"]\n')
    with pytest.raises(ConfigError, match=r"settings\.yaml, line 2: .*python/object"):
        read_yaml(path)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("text", "line"), [("seed: 1\nname: a\nseed: 2\n", 3), ("sweep:\n  chips: 1\n  chips: 2\n", 3)]
)
def test_a_repeated_key_is_refused_with_file_and_line(written, text, line):
    with pytest.raises(ConfigError, match=rf"settings\.yaml, line {line}: .*stands twice"):
        read_yaml(written(text))


@pytest.mark.parametrize("text", ["a: [1, 2", "? [1]\n: 2\n", "- 1\n- 2\n", "", "text", "a: \x00"])
def test_what_is_no_mapping_of_settings_is_refused_with_its_path(written, text):
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        read_yaml(written(text))


def test_a_missing_or_binary_file_is_refused_with_its_path(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml.*No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "image.yaml").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ConfigError, match=r"image\.yaml"):
        read_yaml(tmp_path / "image.yaml")


def test_numbers_in_short_scientific_notation_are_numbers(written):
    found = read_yaml(written("a: 1e-3\nb: -2.5E4\nc: 1.e+2\nd: .inf\ne: x1e3\nf: 12\n"))
    assert found == {"a": 1e-3, "b": -2.5e4, "c": 100.0, "d": math.inf, "e": "x1e3", "f": 12}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"taks": {}}, "f: unknown key 'taks'; did you mean 'task'"),
        ({"sweep": {"chip": 3}}, "f: sweep: unknown key 'chip'; did you mean 'chips'"),
        ({"hardware": {"g_max": 3}}, "f: hardware: unknown key 'g_max'; did you mean 'g_max_us'"),
        ({"zzz": 1}, "choose from: backend, batch_size"),
        ({"sweep": 3}, "f: sweep must be a mapping of chips, times_s, reads, .*, not 3"),
    ],
)
def test_unknown_keys_get_the_nearest_name_at_every_depth(content, message):
    with pytest.raises(ConfigError, match=message):
        check_keys(content, Experiment, "f")


def test_options_of_a_task_take_any_key():
    check_keys({"task": {"options": {"anything": 1}}}, Experiment, "f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "a": 2}', "the key 'a' stands twice"),
        ('{"a": 1,\n "b": }', r"line 2: not JSON"),
        ("[1]", "must hold a mapping"),
        ('{"a": ' + 100_000 * "[", "settings"),
    ],
)
def test_json_is_as_strict(tmp_path, text, message):
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"settings\.json.*{message}"):
        read_yaml(path)


def test_json_may_have_tabs_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "settings.json"
    path.write_bytes(b'\xef\xbb\xbf{\n\t"a": [1, 2]\n}')
    assert read_yaml(path) == {"a": [1, 2]}


def test_yaml_nested_too_deeply_is_refused_with_its_path(written):
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        read_yaml(written("a: " + 5_000 * "["))
