"""The guess at a text's language."""

import pytest

from routing.language import UNKNOWN, language_of, words_of


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
