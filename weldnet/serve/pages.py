"""The pages, for people and for those who write programs: files that load nothing from any other server."""

import importlib.resources

from fastapi import FastAPI, Response

_OWN, _SWAGGER = "weldnet.serve", "fastapi_offline"

PAGES = {
    "/": (_OWN, "page.html", "text/html"),
    "/page.css": (_OWN, "page.css", "text/css"),
    "/page.js": (_OWN, "page.js", "text/javascript"),
    "/page_camera.js": (_OWN, "page_camera.js", "text/javascript"),
    "/page_requests.js": (_OWN, "page_requests.js", "text/javascript"),
    "/docs": (_OWN, "docs.html", "text/html"),
    "/docs.js": (_OWN, "docs.js", "text/javascript"),
    "/swagger-ui.css": (_SWAGGER, "static/swagger-ui.css", "text/css"),
    "/swagger-ui-bundle.js": (_SWAGGER, "static/swagger-ui-bundle.js", "text/javascript"),
}
"""Route to package, file and media type."""


def add_pages(app: FastAPI) -> None:
    """Adds their routes."""
    for path, (package, name, kind) in PAGES.items():
        _add_file(app, path, importlib.resources.files(package).joinpath(name).read_bytes(), kind)


def _add_file(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    @app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)
    async def answer() -> Response:
        return Response(content, media_type=kind)
