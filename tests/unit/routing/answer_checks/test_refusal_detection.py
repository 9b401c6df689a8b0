"""Refusals are told from answers that only sound like them."""

import pytest

from routing.answer_checks.refusal_detection import is_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "I am sorry, I cannot help you with this.",
        "Sorry, I can't do that.",
        "I cannot provide instructions for that.",
        "I can't comply with this request.",
        "I won't create that kind of content.",
        "I'm unable to assist with this.",
        "I am not able to answer questions of this kind.",
        "As an AI language model, I cannot give medical advice.",
        "As an AI, I don't have personal opinions.",
        "Unfortunately, I am unable to complete this request.",
        "I apologize, but as an AI language model I cannot do this.",
        "I must decline.",
        "I'm sorry, but that isn't something I can do.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Leider kann ich diese Frage nicht beantworten.",
        "Tut mir leid, ich kann dazu keine Auskunft geben.",
        "Dabei kann ich dir leider nicht helfen.",
        "Als KI-Sprachmodell kann ich dazu nichts sagen, das geht nicht.",
        "Je suis désolé, mais je ne peux pas répondre à cette question.",
        "Désolée, je ne peux pas vous aider.",
        "En tant qu'IA, je ne peux pas faire cela.",
        "Lo siento, pero no puedo ayudar con eso.",
        "No puedo ayudarte con eso.",
        "Mi dispiace, ma non posso aiutarti.",
        "Desculpe, mas não posso ajudar com isso.",
    ],
)
def test_a_refusal_is_seen(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Paris.",
        "I can't find a mistake in your proof.",
        "I'm sorry to hear that your dog is ill. Take it to a vet.",
        "Sorry for the confusion: the answer is 42.",
        "The assistant said: I'm sorry, but I can't help with that.",
        "I can see three options.",
        "I will not be in the office on Friday.",
        "Unfortunately, the train left at 9:40.",
        "I cannot answer with certainty, but here is the best estimate: 42.",
        "I can't provide legal advice. However, here are the general rules: first, write to them.",
        "Leider regnet es morgen nicht.",
        "Malheureusement, il pleut demain.",
        "Lo siento por la demora. La respuesta es 42.",
        "I cannot provide that. " + "What follows is a long explanation of something else. " * 20,
    ],
)
def test_an_answer_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)
