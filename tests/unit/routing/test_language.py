"""The guess at a text's language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.language import UNKNOWN, language_of, latin_language, words_of
from routing.lexicon import LANGUAGES


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
def test_the_language_of_a_plain_text_is_told(language: str, text: str) -> None:
    assert language_of(text) == language


def test_a_text_with_as_much_of_two_languages_is_of_neither() -> None:
    assert language_of("the is are was und nicht ist sind with mit") == UNKNOWN


def test_words_are_the_same_by_the_quick_way_and_by_the_pattern() -> None:
    ascii_text = "it's 3.5 x_1, (a)-b; c\td\x1fe"
    assert words_of(ascii_text) == words_of(ascii_text + " é")[:-1]


def test_each_language_stands_where_its_stop_words_are_counted() -> None:
    for sign, language in LANGUAGES:
        counts = bytearray(32)
        counts[sign] = 3
        assert latin_language(9, bytes(counts)) == language


@given(st.lists(st.integers(0, 12), min_size=len(LANGUAGES), max_size=len(LANGUAGES)), st.integers(0, 200))
def test_a_language_leads_plainly_or_is_unknown(found: list[int], words: int) -> None:
    counts = bytearray(32)
    for (sign, _), count in zip(LANGUAGES, found, strict=True):
        counts[sign] = count
    second, most = sorted(found)[-2:]
    led = latin_language(words, bytes(counts))
    if most >= 2 and most * 3 >= second * 4 and most * 12 >= words:
        assert led == LANGUAGES[found.index(most)][1]
    else:
        assert led == UNKNOWN
