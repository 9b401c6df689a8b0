"""The guess at a text's language."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.heuristics import signals
from routing.heuristics.heuristic_features import _MATHS_SIGN
from routing.heuristics.language_detection import (
    UNKNOWN,
    has_other_script,
    is_beyond_latin,
    language_of,
    latin_language,
    words_of,
)
from routing.heuristics.signal_words import _KNOWN, LANGUAGES, tally, tally_stop_words
from routing.heuristics.unicode_obfuscation import is_disguised


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "How do I reset the password of my account if I have lost the phone?"),
        ("de", "Wie kann ich das Passwort meines Kontos zurücksetzen, wenn ich das Telefon nicht mehr habe?"),
        ("fr", "Comment est-ce que je peux changer le mot de passe de mon compte dans les réglages ?"),
        ("es", "¿Cómo puedo cambiar la contraseña de mi cuenta si no tengo el teléfono?"),
        ("it", "Come posso cambiare la password del mio conto se non ho più il telefono con me?"),
        ("pt", "Como é que eu posso mudar a senha da minha conta se não tenho o telefone comigo?"),
        ("nl", "Hoe kan ik het wachtwoord van mijn account wijzigen als ik de telefoon niet meer heb?"),
        ("ru", "Как мне сменить пароль от учётной записи?"),
        ("zh", "我怎么更改我的账户密码？"),
        ("ja", "アカウントのパスワードを変更するにはどうすればいいですか。"),
        ("ko", "계정 비밀번호를 어떻게 변경하나요?"),
        ("ar", "كيف يمكنني تغيير كلمة مرور حسابي؟"),
        ("el", "Πώς μπορώ να αλλάξω τον κωδικό μου;"),
        ("he", "איך אני משנה את הסיסמה שלי?"),
        ("hi", "मैं अपना पासवर्ड कैसे बदलूँ?"),
        ("th", "ฉันจะเปลี่ยนรหัสผ่านได้อย่างไร"),
        (UNKNOWN, ""),
        (UNKNOWN, "12345 67890"),
        (UNKNOWN, "lorem ipsum dolor sit amet consectetur adipiscing elit sed eiusmod tempor"),
    ],
)
def test_the_language_of_a_plain_text_is_reported(language: str, text: str) -> None:
    assert language_of(text) == language


def test_a_text_with_as_much_of_two_languages_is_of_neither() -> None:
    assert language_of("the is are was und nicht ist sind with mit") == UNKNOWN


def test_words_are_the_same_by_the_quick_way_and_by_the_pattern() -> None:
    every = "".join(f"a{chr(code)}b{chr(code)} " for code in range(0x3000))
    for text in ("it's 3.5 x_1, (a)-b; c\td\x1fe", every[: 5 * 128], every, *every.split(" ")):
        assert words_of(text) == re.findall(r"\w+", text.lower())


@given(st.text())
def test_of_a_text_within_latin_and_its_typography_nothing_else_is_to_be_looked_for(text: str) -> None:
    for part in (text, *text):
        if not is_beyond_latin(part):
            assert not is_disguised(part)
            assert not has_other_script(part)
            assert "？" not in part
            assert not _MATHS_SIGN.search(part)


def test_each_language_stands_where_its_stop_words_are_counted() -> None:
    for place, (number, language) in enumerate(LANGUAGES):
        counts = bytearray(len(LANGUAGES))
        counts[place] = 3
        assert latin_language(["it"] * 9, bytes(counts)) == language
        assert number == signals.EN + place


@given(st.lists(st.sampled_from(sorted(_KNOWN))))
def test_stop_words_alone_are_counted_as_among_all_signs(words: list[str]) -> None:
    assert tally_stop_words(words) == tally(words)[signals.EN :]


@given(st.lists(st.integers(0, 12), min_size=len(LANGUAGES), max_size=len(LANGUAGES)), st.integers(0, 200))
def test_a_language_leads_plainly_or_is_unknown(found: list[int], words: int) -> None:
    second, most = sorted(found)[-2:]
    led = latin_language([str(word) for word in range(words)] * 2, bytes(found))
    if most >= 2 and most * 3 >= second * 4 and most * 12 >= words:
        assert led == LANGUAGES[found.index(most)][1]
    else:
        assert led == UNKNOWN
