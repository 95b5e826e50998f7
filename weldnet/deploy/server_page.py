"""The page for people: files of this package, which ask nothing of any other server."""

import importlib.resources

from fastapi import FastAPI, Request, Response

PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/page_camera.js": ("page_camera.js", "text/javascript"),
    "/page_requests.js": ("page_requests.js", "text/javascript"),
}
"""Route to file and media type."""


def add_page(app: FastAPI) -> None:
    """Adds the page's routes."""
    for path, (name, kind) in PAGE.items():
        _add_file(app, path, importlib.resources.files("weldnet.deploy").joinpath(name).read_bytes(), kind)


def _add_file(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    app.add_api_route(path, answer, methods=["GET", "HEAD"], include_in_schema=False)
