"""Detection of refusals: short answers that open with a phrase by which models decline."""

import re
from typing import Final

MAX_CHARS: Final = 700
"""A longer answer is not a refusal, whatever its first sentence says."""

_OPENING: Final = re.compile(
    r"""
    (?:(?:i'm|i\ am)\ (?:very\ |so\ |really\ |terribly\ )?sorry | sorry | my\ apologies | i\ apologi[sz]e
        | unfortunately | regrettably)[,.:;!]?\ (?:but\ |that\ |for\ (?:the|any)\ inconvenience[,.]?\ (?:but\ )?)*
      (?:as\ an?\ (?:ai|artificial\ intelligence|large\ language|language)[\w\ -]{0,40},?\ )?
      i\ ?(?:can't|can\ ?not|could\ ?n[o']t|won't|will\ not|am\ not\ able|'m\ not\ able|am\ unable|'m\ unable)\b
    | i\ ?(?:can't|can\ ?not|won't|will\ not|'m\ not\ able\ to|am\ not\ able\ to|'m\ unable\ to|am\ unable\ to)
      \ (?:(?:ethically|really|simply|directly|in\ good\ conscience)\ )?
      (?:assist | help\ (?:you\ )?(?:with|create|write|make|do)\b | help\ you\b | comply | fulfil{1,2} | engage
        | do\ (?:that|this)\b | participate | provide | answer | respond | create | generate | write | produce
        | complete\ (?:this|that) | discuss | share\ (?:that|this|information) | process\ (?:this|that|your))
    | as\ an?\ (?:ai|artificial\ intelligence|large\ language|language)[\w\ -]{0,30},?\ i
      \ ?(?:can't|can\ ?not|do\ not|don't|am\ not|'m\ not|am\ unable|'m\ unable)
    | (?:i'm|i\ am)\ sorry,?\ (?:but\ )?(?:that|this)\ (?:is\ not|isn't)\ something\ i\ can
    | i\ (?:must|have\ to)\ (?:respectfully\ |politely\ )?(?:decline|refuse)
    # German
    | (?:(?:es\ )?tut\ mir\ (?:sehr\ )?leid | entschuldigung | leider)[,.]?\ (?:aber\ )?
      (?:dabei\ |das\ |dazu\ )?(?:ich\ )?(?:kann|darf|werde|bin)\b[^.]{0,80}\b(?:nicht|kein\w{0,3})\b
    | als\ (?:ki|künstliche\ intelligenz|sprachmodell)\b[^.]{0,60}\b(?:kann|darf)\ ich
      [^.]{0,60}\b(?:nicht|kein\w{0,3})\b
    | (?:dabei|damit|dazu)\ kann\ ich\ (?:dir\ |ihnen\ )?(?:leider\ )?(?:nicht|keine)\b
    # French
    | (?:je\ suis\ (?:vraiment\ )?désolée? | désolée? | malheureusement | je\ m'excuse)[,.]?\ (?:mais\ )?
      je\ ne\ (?:peux|puis|suis)\ (?:malheureusement\ )?(?:pas|point)
    | en\ tant\ qu'(?:ia|intelligence\ artificielle|assistant|modèle)\b[^.]{0,60}je\ ne\ (?:peux|puis|suis)\ pas
    | je\ ne\ (?:peux|puis)\ pas\ (?:vous\ |t')?(?:aider|répondre|fournir|assister)
    # Spanish
    | (?:lo\ siento | lo\ lamento | lamentablemente | desafortunadamente)[,.]?\ (?:pero\ )?
      no\ (?:puedo|podré|me\ es\ posible|estoy\ en\ condiciones)
    | como\ (?:ia|inteligencia\ artificial|modelo\ de\ lenguaje)\b[^.]{0,60}\bno\ puedo
    | no\ puedo\ (?:ayudarte|ayudarle|proporcionar|responder|asistir|cumplir)
    # Italian and Portuguese
    | (?:mi\ dispiace | sono\ spiacente)[,.]?\ (?:ma\ )?non\ posso
    | (?:desculpe | sinto\ muito | lamento)[,.]?\ (?:mas\ )?não\ posso
    """,
    re.IGNORECASE | re.VERBOSE,
)
# A refusal that goes on to give what was asked for is none.
_BUT_HERE_IT_IS: Final = re.compile(
    r"\b(?:however|but|instead|aber|jedoch|mais|pero)\b[^.]{0,40}"
    r"\b(?:here(?:'s| is| are)|i can (?!not)|you can|hier|voici|aquí|puedo)\b",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether the stripped answer ``text`` is a refusal in English, German, French, Spanish, Italian or Portuguese.

    A word of regret alone is not a refusal, and neither is a "can't" about the subject ("I can't find a mistake in
    it").
    """
    if len(text) > MAX_CHARS:
        return False
    plain = text.replace("’", "'")
    opening = _OPENING.match(plain)
    return opening is not None and _BUT_HERE_IT_IS.search(plain, opening.end()) is None
