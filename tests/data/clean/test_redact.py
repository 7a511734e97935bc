import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.config.sections.clean import CleanConfig
from cpt_ray.data.clean import Cleaned, clean
from cpt_ray.data.clean.redact import redact
from cpt_ray.records import Document

ALL = ("email", "phone", "ip", "key")
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKC\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("email", "jane.doe+news@mail.example.co.uk"),
        ("email", "a_b-c@x.org"),
        ("phone", "+1 (212) 555-0147"),
        ("phone", "+49 30 1234567"),
        ("phone", "(212) 555-0147"),
        ("phone", "212-555-0147"),
        ("phone", "1-212-555-0147"),
        ("phone", "(030) 123 4567"),
        ("ip", "93.184.216.34"),
        ("ip", "2001:4860:4860::8888"),
        ("key", "AKIAIOSFODNN7EXAMPLE"),
        ("key", "ghp_" + "a1B2" * 9),
        ("key", "sk-proj-" + "Ab3" * 10),
        ("key", "hf_" + "aB3d" * 9),
        ("key", PEM),
    ],
)
def test_what_is_personal_or_secret_is_replaced_and_counted(kind: str, found: str) -> None:
    text, counts = redact(f"Write to {found}, or not; {found}.", ALL, "<{kind}>")
    mark = f"<{kind.upper()}>"
    assert text == f"Write to {mark}, or not; {mark}."
    assert counts == {kind: 2}
    assert redact(f"Write to {found}.", [k for k in ALL if k != kind], "<{kind}>")[1] == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [("请发邮件至", "联系我们"), ("メールは", "まで"), ("ติดต่อ", "ครับ"), ("전화는 ", "으로"), ("код", "дом")],
)
@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("email", "john@example.com"),
        ("phone", "+81 3 1234 5678"),
        ("phone", "(555) 123-4567"),
        ("ip", "8.8.12.34"),
        ("ip", "2001:4860:4860::8888"),
        ("key", "hf_" + "aB3d" * 9),
        ("key", "github_pat_" + "aB3d" * 9),
    ],
)
def test_letters_of_another_script_hide_nothing_that_they_touch(kind: str, found: str, before: str, after: str) -> None:
    assert redact(f"{before}{found}{after}", ALL, "<{kind}>") == (f"{before}<{kind.upper()}>{after}", {kind: 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("john@example.com-thanks", "<EMAIL>-thanks"),
        ("_john@example.com_", "_<EMAIL>_"),
        ("(555) 123-4567(555) 123-4567", "<PHONE><PHONE>"),
    ],
)
def test_marks_hide_nothing_that_they_touch(text: str, expected: str) -> None:
    assert redact(text, ALL, "<{kind}>")[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "user@host and @name and a@b",
        "on 2024-01-15, or 15.01.2024, at 10:30",
        "version 1.2.3.4.5, release 1.2.3, ISBN 978-3-16-148410-0",
        "10.0.0.1, 127.0.0.1, 192.168.1.1 and 999.1.1.1",
        "section 2.1.2.31 of release 1.0.0.0",
        "section 12-345-6789, 1234567890, 3.14159265358979",
        "std::vector<int>::iterator, 10:20:30",
        'api_key = "your-api-key-goes-here"',
        "password: hunter2",
        "sk-learn and task-based risk-averse",
        "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----",
    ],
)
def test_look_alikes_stay(text: str) -> None:
    assert redact(text, ALL, "<{kind}>") == (text, {})


def test_a_secret_is_known_by_its_name_and_its_randomness() -> None:
    text, counts = redact('api_key = "x7Kp2mQ9vL4nR8sT"', ALL, "<{kind}>")
    assert (text, counts) == ('api_key = "<KEY>"', {"key": 1})


def test_the_placeholder_is_the_users() -> None:
    assert redact("a@x.org", ("email",), "|||{kind}|||")[0] == "|||EMAIL|||"
    assert redact("a@x.org", ("email",), r"\1")[0] == r"\1"
    # One that looks like what it replaces is put once.
    assert redact("a@x.org", ("email",), "nobody@example.com") == ("nobody@example.com", {"email": 1})


@given(st.text(st.sampled_from("a1@.+-() :\n0"), max_size=60))
def test_nothing_is_left_to_redact(text: str) -> None:
    once, _ = redact(text, ALL, "<{kind}>")
    assert redact(once, ALL, "<{kind}>") == (once, {})


@pytest.mark.parametrize("text", ["1-" * 50_000, "a." * 50_000 + "@", "a@" * 50_000, "1:" * 50_000, "secret" * 20_000])
def test_long_runs_take_no_quadratic_time(text: str) -> None:
    assert redact(text, ALL, "<{kind}>")[0]


def test_a_kept_document_is_redacted_and_says_how_often() -> None:
    settings = CleanConfig.model_validate({"min_bytes": None, "redact": {"kinds": ["email"]}})
    result = clean(Document("d", "Mail to a@x.org please, or call (212) 555-0147 soon", "s"), settings)
    assert isinstance(result, Cleaned)
    assert result.document.text == "Mail to <EMAIL> please, or call (212) 555-0147 soon"
    assert result.redacted == {"email": 1}
