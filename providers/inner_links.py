"""Links that a server inside the user's network would fetch for a tenant, who may name anything that is there.

A public name can lead to an inner address: where that matters, set ``picture_links = false``.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from providers.provider_errors import UnsupportedParameter
from providers.public_host import is_public_host
from routing.fleet import Provider

_LINKED: Final = ("image_url", "video_url", "audio_url")
"""Keys of a part. Some servers take them whatever its type is."""

_WHY: Final = (
    "this server would fetch the link from inside its network; fix: link to a public address, send the data itself as "
    "a data: URL, or set picture_links = true for its provider"
)


def refuse_inner_links(body: Mapping[str, Any], provider: Provider) -> None:
    """Raises UnsupportedParameter where a part of ``body`` has a link that ``provider`` may not be given.

    A server without TLS counts as one inside the user's network: it is given links to public hosts only.
    """
    takes = provider.picture_links
    if takes or (takes is None and not provider.base_url.startswith("http:")):
        return
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for place, part in enumerate(content if isinstance(content, list) else ()):
            for key in _LINKED if isinstance(part, dict) else ():
                given = part.get(key)
                url = given.get("url") if isinstance(given, dict) else given
                if isinstance(url, str) and not url.startswith("data:") and (takes is False or not _is_public(url)):
                    raise UnsupportedParameter(f"messages[{index}].content[{place}].{key}", _WHY)


def _is_public(url: str) -> bool:
    if "\\" in url or not url.isprintable():  # what is before a backslash is the host to some, a user to others
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and is_public_host(parts.hostname or "")
    except ValueError:
        return False
