import math
import os
from contextlib import suppress
from datetime import timedelta

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analogmed.cli.parse import parse
from analogmed.config import Experiment, to_yaml
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.strict_yaml import check_keys, dump_yaml, parse_yaml, read_yaml


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
    with pytest.raises(ConfigError, match=rf"settings\.yaml, line {line}: .*occurs twice"):
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
        ('{"a": 1,\n "a": 2}', "the key 'a' occurs twice"),
        ('{"a": 1,\n "b": }', r"line 2: not JSON"),
        ("[1]", "must hold a mapping"),
        ('{"a": ' + 100_000 * "[", "nested more than 64 deep"),
        ('{"a": "x\\u0000"}', "NUL"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": ' + 5_000 * "1" + "}", "4300 digits"),
        ('{"a": ' + 65 * "[" + 65 * "]" + "}", "nested more than 64 deep"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + 5_000 * "1", "line 1: .*no value of .*:int"),
        ("b: 1\na: !!int abc", "line 2: .*'abc' is no value of .*:int"),
        ("a: !!bool perhaps", "'perhaps' is no value"),
        ("a: !!timestamp x", "'x' is no value"),
        ("a: !!timestamp 2024-01-02", "a value of type date"),
        ("a: !!binary aGVsbG8=", "a value of type bytes"),
        ("a: !!set {b, c}", "a value of type set"),
        ('a: "x\\0y"', r"'x\\x00y' holds a NUL"),
        ("a: &a {b: *a}", "contains itself"),
        ("a: &a {b: 1}\nc:\n  <<: *a", "line 3: .*merge keys"),
        ("a: " + 65 * "[" + 65 * "]", "nested more than 64 deep"),
        ("a: [" + 2**19 * "1" + "]", "at most 524288 bytes"),
    ],
)
def test_yaml_that_no_setting_can_be_is_refused(written, text, message):
    with pytest.raises(ConfigError, match=rf"settings\.yaml.*{message}"):
        read_yaml(written(text))


def test_aliases_that_multiply_are_refused_before_they_are_written_out(written):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 1048576 values"):
        read_yaml(written("\n".join(lines)))


def test_a_few_aliases_are_what_they_stand_for(written):
    assert read_yaml(written("a: &a [1, 2]\nb: *a\n")) == {"a": [1, 2], "b": [1, 2]}


def test_a_date_is_text(written):
    assert read_yaml(written("train: [2024-01-02, 2024-13-45]\n")) == {
        "train": ["2024-01-02", "2024-13-45"]
    }


def test_a_device_and_a_pipe_without_a_writer_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", "/dev/zero", tmp_path):
        with pytest.raises(ConfigError, match="not a regular file"):
            read_yaml(path)


GOOD = to_yaml(Experiment()).encode()
PIECES = [b"&a ", b"*a", b"<<: ", b"!!int ", b"!!python/name:os.system ", b"{", b"[", b"\x00"]
PIECES += [
    b"'",
    b'"',
    b": ",
    b"\n",
    b"\t",
    b"- ",
    b"? ",
    b"\xff",
    b"2024-13-45",
    b"%YAML 9",
    b"---",
]
PIECES += [b'"\\ud800"', b"1" * 4400, b"[" * 200, b"~", b".nan", b"0x", b"1e999", b"!!set "]


@st.composite
def damaged(draw):
    content = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        cut = draw(st.integers(0, 20))
        content[at : at + cut] = draw(st.sampled_from(PIECES) | st.binary(max_size=8))
    return bytes(content)


@pytest.mark.exhaustive
@settings(max_examples=400, deadline=timedelta(seconds=10))
@given(content=damaged(), suffix=st.sampled_from([".yaml", ".json"]))
def test_damaged_settings_are_read_or_refused_with_their_path(content, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / f"settings{suffix}"
    path.write_bytes(content)
    try:
        read = read_yaml(path)
    except ConfigError as error:
        assert str(path) in str(error)
    else:
        assert yaml.safe_load(yaml.safe_dump(read)).keys() == read.keys()


@pytest.mark.exhaustive
@settings(max_examples=400, deadline=timedelta(seconds=10))
@given(content=damaged())
def test_damaged_settings_become_an_experiment_or_a_sentence(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "settings.yaml"
    path.write_bytes(content)
    with suppress(ConfigError):
        assert isinstance(parse(Experiment, ["--config", str(path)], prog="eval"), Experiment)


@pytest.mark.parametrize(
    "text", ["1e3", "0e0", "-1E-5", "1_0e2", "1.e3", "2024-13-45", "null", "0.5"]
)
@pytest.mark.parametrize("on_one_line", [False, True])
def test_text_that_looks_like_a_number_stays_text(text, on_one_line):
    content = {"name": text, text: [text, 1e3]}
    assert parse_yaml(dump_yaml(content, on_one_line=on_one_line), "here") == content
