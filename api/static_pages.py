"""Static pages: files without data, the same for every user, which need no API key."""

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
    # Only files of this service; user text is never parsed as HTML or script.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


_STATIC: Final = files("api").joinpath("static")
_HEAD, _NAV = (_STATIC.joinpath("shared", name).read_bytes() for name in ("head.html", "nav.html"))
"""The shared parts of pages, which replace ``<!-- head -->`` and ``<!-- nav -->``."""


class Pages:
    """The files of one folder of ``api/static``, read once, under ``path``. The page itself is at ``path``."""

    def __init__(self, path: str, folder: str) -> None:
        self._path = path
        self._page = f"{folder}.html"
        self._files = {
            file.name: self._whole(file.name, file.read_bytes())
            for file in _STATIC.joinpath(folder).iterdir()
            if file.name.rpartition(".")[2] in _TYPES
        }

    def _whole(self, name: str, file: bytes) -> bytes:
        """Return ``file`` with the shared parts of pages. The navigation link to the page itself is marked."""
        path = self._path if name == self._page else f"{self._path}/{name}"
        link = f'href="{path}"'.encode()
        nav = _NAV.replace(link, link + b' aria-current="page"')
        return file.replace(b"<!-- head -->\n", _HEAD).replace(b"  <!-- nav -->\n", nav)

    @property
    def paths(self) -> frozenset[str]:
        return frozenset({self._path, *(f"{self._path}/{name}" for name in self._files)})

    def response(self, name: str | None = None) -> Response:
        """Return the file, or the page itself. Raises ApiError 404 for an unknown name."""
        name = name or self._page
        if name not in self._files:
            raise ApiError(404, f"No such file: {self._path}/{name[:100]}")
        return Response(self._files[name], media_type=_TYPES[name.rpartition(".")[2]], headers=HEADERS)
