"""Words that show a query's subject, its language, and whether it addresses the router.

All words are in lower case, and each counts once per query.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from routing.heuristics import signals

LANGUAGES: Final[tuple[tuple[int, str], ...]] = (
    (signals.EN, "en"),
    (signals.DE, "de"),
    (signals.FR, "fr"),
    (signals.ES, "es"),
    (signals.IT, "it"),
    (signals.PT, "pt"),
    (signals.NL, "nl"),
)
"""Languages in Latin script. Their stop words are the last signs, in this order."""

_WORDS: Final[dict[int, str]] = {
    signals.CODE: """
        python javascript typescript java golang rust redis kafka grpc kotlin haskell sql postgres postgresql mysql
        sqlite regex regexp code coding codebase function functions method class classes api apis endpoint database
        schema algorithm compiler compile runtime segfault traceback stacktrace exception thread threads mutex
        concurrency async docker kubernetes html css react django flask bash script unittest microservice
        microservices backend frontend recursion recursive leetcode funktion klasse datenbank quelltext quellcode
        fonction classe función clase código
    """,
    signals.MATHS: """
        equation equations integral integrate derivative differentiate theorem matrix matrices eigenvalue
        eigenvalues vector polynomial polynomials probability modulo prime primes calculus algebra geometry
        trigonometry triangle logarithm combinatorics permutations variance topology manifold isomorphism
        isomorphic homomorphism convergent converges bijection lemma calculate compute solve sqrt cos sin
        gleichung integral ableitung matrix wahrscheinlichkeit primzahl berechne dreieck
        équation intégrale dérivée matrice probabilité calcule calculer triangle
        ecuación derivada matriz probabilidad calcula calcular triángulo
    """,
    signals.LENGTH: """
        word words sentence sentences paragraph paragraphs page pages bullet bullets lines label letter category
        wort wörter wörtern sätze sätzen absätze seiten mots phrases paragraphes palabras frases párrafos páginas
    """,
    signals.ROUTER: """
        router routers routing route routed tier tiers pointsman dispatcher classifier escalate escalation
        cheapest smallest difficulty stufe schwierigkeit routeur difficulté niveau enrutador nivel gpt llm mini
    """,
    signals.BAIT: """
        small smaller smallest medium large cheap cheaper cheapest model models mini haiku flash confidence difficulty
        easy trivial simple simplest basic override ignore disregard forget instruction instructions request query
        prompt system assistant role tier tiers send oublie olvida vergiss assign label choose select answer treat mark
        klein kleine kleines kleinste kleinsten einfach leicht modell anfrage ignoriere anweisungen
        petit petite facile simple modèle requête ignore instructions
        pequeño pequeña fácil sencillo modelo consulta ignora instrucciones
    """,
    signals.KEYWORD: "def include function console select import public class return const var",
    signals.FOREIGN: """
        translate translation translated english german french spanish italian portuguese russian chinese japanese
        arabic dutch mandarin korean polish turkish latin hindi swedish greek hebrew thai ukrainian vietnamese
        übersetze übersetzen übersetzung deutsch englisch französisch spanisch italienisch
        russisch chinesisch japanisch polnisch türkisch niederländisch portugiesisch arabisch
        traduis traduire traduisez traduction anglais allemand français espagnol italien
        traduce traducir traduzca traducción inglés alemán francés español italiano
        traduci tradurre traduzione inglese tedesco francese spagnolo
        traduza traduzir tradução inglês alemão francês espanhol português
    """,
    signals.EN: """
        the is are was were what which who how why when where does do can could would of to and in for with that
        this it my your please an from about have has you me be not or if a at on by as into some any all one two
        three their his her we they i there then than so also after before over been did had it its these those
        write give list explain find make say turn tell show describe create answer only
    """,
    signals.DE: """
        der die das ist sind und nicht ein eine einen einem wie was wer wo warum mit für auf von zu den dem im ich
        du mir mich bitte kann wird welche welcher welches bei auch oder dass sich es
        schreibe nenne gib erkläre zeige viele aus nur
    """,
    signals.FR: """
        le la les est sont et un une des du que qui quoi comment pourquoi avec pour dans sur de ce cette ces je tu
        vous moi pas au aux quel quelle il elle nous ou à donne écris
        explique combien sont cette quelles quels
    """,
    signals.ES: """
        el la los las es son y un una que qué quién cómo por para con en de del cuál cuándo dónde mi no se lo al
        este esta cuántos cuántas o su escribe
        dime explica cuáles muy más
    """,
    signals.IT: """
        il lo la gli le è sono e un una che chi come perché con per di del della nel cosa quale dove quando non mi
        si questo questa i o
    """,
    signals.PT: """
        o a os as é são e um uma que quem como por para com em de do da não qual quando onde meu se isso você no na
    """,
    signals.NL: """
        de het een en van is dat niet wat hoe waarom met voor op zijn ik je deze wie waar naar ook maar
    """,
}

Signs = bytes
"""The number of different words of a text per `sign`: one byte each, indexed by the sign."""


def _pack() -> dict[str, int]:
    weights: dict[str, int] = {}
    for number, words in _WORDS.items():
        listed = set(words.split())
        if len(listed) > 255:
            raise ValueError(f"more words for sign {number} than a byte counts")
        for word in listed:
            weights[word] = weights.get(word, 0) + (1 << (8 * number))
    return weights


# Each sign has one byte of an integer, so that a single sum over the words counts all of them:
# this is what keeps the gate at a few microseconds.
_WEIGHT: Final[Mapping[str, int]] = _pack()
_KNOWN: Final = frozenset(_WEIGHT)
_STOP_WEIGHT: Final = {word: stops for word, weight in _WEIGHT.items() if (stops := weight >> (8 * signals.EN))}
_STOP_WORDS: Final = frozenset(_STOP_WEIGHT)


def tally(words: Iterable[str]) -> Signs:
    """Count, for each of `signals`, the different ``words`` (lower case) with that sign."""
    # Most words are unknown: a set of all of them, to have each once, would cost as much as the rest.
    return sum(map(_WEIGHT.__getitem__, _KNOWN.intersection(words))).to_bytes(len(_WORDS), "little")


def tally_stop_words(words: Iterable[str]) -> bytes:
    """Count, for each of `LANGUAGES`, the different ``words`` that are its stop words: the part of `tally` from ``EN``
    on."""
    return sum(map(_STOP_WEIGHT.__getitem__, _STOP_WORDS.intersection(words))).to_bytes(len(LANGUAGES), "little")
