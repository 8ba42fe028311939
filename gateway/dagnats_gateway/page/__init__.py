"""The API page: static files that draw openapi.json, served from the package, so that it works without
internet."""

from __future__ import annotations

from importlib import resources

from litestar import Response
from litestar.handlers import HTTPRouteHandler, get
from litestar.response import Redirect

from dagnats_gateway import openapi
from dagnats_gateway.media import JSON

FILES = {
    "/docs": ("index.html", "text/html"),
    "/docs/page.css": ("page.css", "text/css"),
    "/docs/page.js": ("page.js", "text/javascript"),
    "/docs/icon.svg": ("icon.svg", "image/svg+xml"),
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
    contents = {path: (folder.joinpath(name).read_bytes(), media) for path, (name, media) in FILES.items()}
    contents["/openapi.json"] = (openapi.encode(openapi.document()), JSON)
    return [to_page, *(_static(path, content, media) for path, (content, media) in contents.items())]


@get("/", status_code=302, sync_to_thread=False)
def to_page() -> Redirect:
    return Redirect("/docs", status_code=302)


def _static(path: str, content: bytes, media: str) -> HTTPRouteHandler:
    def serve() -> Response[bytes]:
        return Response(content, media_type=media, headers=HEADERS)

    return get(path, sync_to_thread=False)(serve)
