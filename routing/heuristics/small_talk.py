"""Greetings and thanks: queries that a small model answers well.

A pattern must match the whole text. Thanks followed by anything else are not small talk.
"""

import re
from typing import Final

_MAX_CHARS: Final = 60

_GREETING: Final = re.compile(
    r"(?:hi|hello|hey|hiya|howdy|good (?:morning|afternoon|evening|night|day)|thanks?(?: you)?(?: (?:so|very) much)?"
    r"|cheers|bye|goodbye|ok|okay|ping|test|hallo|guten (?:tag|morgen|abend)|danke(?: schön)?|tschüss|servus|moin"
    r"|bonjour|bonsoir|salut|merci(?: beaucoup)?|au revoir|hola|buen(?:os|as) (?:días|tardes|noches)|gracias|adiós)"
    r"(?:[ ,!]+(?:there|all|everyone|you|how are you(?: today)?|wie geht(?:'s| es dir)|ça va|¿?qué tal|comment ça va))*"
    r"[\s!.?,]*",
    re.IGNORECASE,
)
_THANKS: Final = re.compile(
    r"(?:(?:great|perfect|ok|okay|super|ah)[ ,!.]+)?"
    r"(?:thanks?(?: you)?(?: (?:so much|very much|a lot))?|many thanks|(?:vielen )?danke?|merci|(?:muchas )?gracias)"
    r"[ ,!.–-]*"
    r"(?:for (?:your|the|all the|all your) (?:quick |kind )?(?:help|answer|reply|explanation|time)(?: today)?"
    r"|für (?:die|deine|ihre) (?:hilfe|antwort)|pour (?:ton|votre) aide|por (?:tu|su|la) ayuda"
    r"|(?:that|this|it|you|das|you've|c'est|ça) (?:was|were|been|is|has been|have been|war|hat mir|m'a|helped|works)?"
    r"(?: (?:very|really|so|just|exactly|a|an|of|great|big|me|sehr|bien|helpful|useful|perfect|good|lovely|kind|help"
    r"|all|it|what i (?:needed|wanted)|geholfen|alles|parfait|aidé))*)[\s!.]*",
    re.IGNORECASE,
)


def is_small_talk(text: str) -> bool:
    """Whether ``text`` is a greeting or thanks and nothing else."""
    if len(text) > _MAX_CHARS:
        return False
    said = text.strip()
    return _GREETING.fullmatch(said) is not None or _THANKS.fullmatch(said) is not None
