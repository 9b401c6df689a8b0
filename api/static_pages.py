"""Pages that the service serves itself: files that are the same for everybody, so they need no key and hold no data."""

from importlib.resources import files
from typing import Final

from starlette.responses import Response

from api.http_errors import ApiError

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "html": "text/html; charset=utf-8",
}
HEADERS: Final = {
    # Only what we serve ourselves, and no word of a user is ever read as anything but text.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


class Pages:
    """The files of one folder of ``api/static``, read once, under ``path``; its page is at ``path`` itself."""

    def __init__(self, path: str, folder: str) -> None:
        self._path = path
        self._page = f"{folder}.html"
        self._files = {
            each.name: each.read_bytes()
            for each in files("api").joinpath("static", folder).iterdir()
            if each.name.rpartition(".")[2] in _TYPES
        }

    @property
    def open(self) -> frozenset[str]:
        """The paths that need no key."""
        return frozenset({self._path, *(f"{self._path}/{name}" for name in self._files)})

    def response(self, name: str | None = None) -> Response:
        """The file, or the page itself. Raises ApiError where there is none."""
        name = name or self._page
        if name not in self._files:
            raise ApiError(404, f"There is no file {self._path}/{name[:100]}.")
        return Response(self._files[name], media_type=_TYPES[name.rpartition(".")[2]], headers=HEADERS)
