import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analogmed.foundation.credentials import is_masked, masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ann:pw@host:5432/db", "postgresql://***@host:5432/db"),
        ("postgresql+psycopg2://ann:p:w/x@host/db", "postgresql+psycopg2://***@host/db"),
        ("s3://AKIA123:ab/cd+ef=@bucket/sweep", "s3://***@bucket/sweep"),
        ("https://token@host/x", "https://***@host/x"),
        ("simplecache::s3://k:s@bucket/x", "simplecache::s3://***@bucket/x"),
        ("mysql://host/db?user=a&password=pw&ssl=1", "mysql://host/db?user=a&password=***&ssl=1"),
        ("https://a.net/c?sv=1&sig=Zx%2F&Api_Key=k", "https://a.net/c?sv=1&sig=***&Api_Key=***"),
        ("store s3://a:b@c: no; redis://:pw@h:1/0", "store s3://***@c: no; redis://***@h:1/0"),
        ('{"store": "s3://a:b@c"}', '{"store": "s3://***@c"}'),
    ],
)
def test_credentials_of_urls_are_masked(text, expected):
    assert masked(text) == expected
    assert is_masked(masked(text))
    assert masked(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/sweep",
        "runs/x",
        "https://host:8080/path@version",
        "abfs://container@account.dfs.core.windows.net/sweep",
        "gs://bucket/file@v1",
        "sqlite:///runs/search.db",
        "mail ann@host.org: no URL",
        "ray://head:10001",
        "a: b\nkeys: [1]\nurl: file:///x?y=1\n",
    ],
)
def test_other_text_is_left_as_it_is(text):
    assert masked(text) == text
    assert not is_masked(text)


@pytest.mark.exhaustive
@settings(max_examples=400)
@given(st.text("abcXYZ019-._~%+=/!$&*,", min_size=5), st.sampled_from(["s3", "postgresql"]))
def test_no_password_remains(password, scheme):
    secret = f"S{password}T"
    assert secret not in masked(f"error: {scheme}://user:{secret}@host/path failed")
