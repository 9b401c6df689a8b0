"""Links that a server inside the user's network would fetch for a tenant, who may name anything that is there."""

from collections.abc import Mapping
from typing import Any, Final

from providers.provider_errors import UnsupportedParameter
from routing.fleet import Provider

_LINKED: Final = ("image_url", "video_url", "audio_url")
"""Keys of a part. Some servers take them whatever its type is."""

_WHY: Final = (
    "this server would fetch the link from inside its network; fix: send the data itself as a data: URL, or set "
    "picture_links = true for its provider"
)


def refuse_inner_links(body: Mapping[str, Any], provider: Provider) -> None:
    """Raises UnsupportedParameter where a part of ``body`` has a link and ``provider`` may not be given any."""
    if provider.takes_links:
        return
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for place, part in enumerate(content if isinstance(content, list) else ()):
            for key in _LINKED if isinstance(part, dict) else ():
                given = part.get(key)
                url = given.get("url") if isinstance(given, dict) else given
                if isinstance(url, str) and not url.startswith("data:"):
                    raise UnsupportedParameter(f"messages[{index}].content[{place}].{key}", _WHY)
