"""Translation from each endpoint's request to chat completions, and from the stored answer to each endpoint's
object."""

from collections.abc import Mapping
from typing import Any, Final, assert_never

from endpoints import messages_request, responses_request
from endpoints.embeddings_request import check_embeddings
from endpoints.endpoint import Endpoint
from endpoints.message_object import message_object
from endpoints.messages_request import chat_body_of_messages
from endpoints.response_object import response_object
from endpoints.responses_request import chat_body_of_response


def stored_body(endpoint: Endpoint, body: dict[str, Any]) -> dict[str, Any]:
    """Return ``body``, written for ``endpoint``, in its stored form: a body of chat completions, or of embeddings.

    Raises InvalidField.
    """
    match endpoint:
        case Endpoint.CHAT:
            return body
        case Endpoint.EMBEDDINGS:
            check_embeddings(body)
            return body
        case Endpoint.RESPONSES:
            return chat_body_of_response(body)
        case Endpoint.MESSAGES:
            return chat_body_of_messages(body)
        case _:
            assert_never(endpoint)


def answer_object(
    endpoint: Endpoint, completion: Mapping[str, Any], asked: Mapping[str, Any], *, name: str
) -> Mapping[str, Any]:
    """Return the answer in ``endpoint``'s form. ``asked`` is the stored chat body. ``name`` makes ids in the object."""
    match endpoint:
        case Endpoint.CHAT | Endpoint.EMBEDDINGS:
            return completion
        case Endpoint.RESPONSES:
            return response_object(completion, asked, name=name)
        case Endpoint.MESSAGES:
            return message_object(completion, name=name)
        case _:
            assert_never(endpoint)


def field_name(endpoint: Endpoint, field: str) -> str:
    """Return ``endpoint``'s name for a field of the chat body that its request was translated to."""
    if endpoint is not Endpoint.CHAT and field.startswith("messages["):
        field = "messages"  # the place differs: a system prompt becomes a message, and one message can become several
    for chat, name in _CHAT_NAMES.get(endpoint, {}).items():
        if field == chat or field.startswith((f"{chat}.", f"{chat}[")):
            return name + field.removeprefix(chat)
    return field


_CHAT_NAMES: Final[Mapping[Endpoint, Mapping[str, str]]] = {
    Endpoint.RESPONSES: responses_request.FIELDS.chat_names,
    Endpoint.MESSAGES: messages_request.FIELDS.chat_names,
}
