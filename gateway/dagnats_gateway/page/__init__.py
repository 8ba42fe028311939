"""The API page: static files that draw openapi.json, served from the package, so that it works without
internet."""

from __future__ import annotations

from importlib import resources

from litestar import Response
from litestar.handlers import HTTPRouteHandler, get
from litestar.response import Redirect

from dagnats_gateway import openapi
from dagnats_gateway.media import JSON

MEDIA_TYPES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "console.js": "text/javascript",
    "schema.js": "text/javascript",
    "dom.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


def handlers() -> list[HTTPRouteHandler]:
    """Routes of the page, of openapi.json, and of `/`, which leads to the page."""
    folder = resources.files(__name__)
    files = [_static(f"/docs/{name}", folder.joinpath(name).read_bytes(), media) for name, media in MEDIA_TYPES.items()]
    page = _static("/docs", folder.joinpath("index.html").read_bytes(), "text/html")
    document = _static("/openapi.json", openapi.encode(openapi.document()), JSON)
    return [to_page, page, document, *files]


@get("/", status_code=302, sync_to_thread=False)
def to_page() -> Redirect:
    return Redirect("/docs", status_code=302)


def _static(path: str, content: bytes, media: str) -> HTTPRouteHandler:
    def serve() -> Response[bytes]:
        return Response(content, media_type=media, headers=HEADERS)

    return get(path, sync_to_thread=False)(serve)
