"""The OpenAPI 3.1 document, at ``/schema/openapi.json`` only: no bundled user interface to keep safe."""

from typing import Any

from litestar import Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components

VERSION = "1.0.0"


def openapi_config(title: str, description: str, components: Components | None = None) -> OpenAPIConfig:
    return OpenAPIConfig(
        title=title,
        version=VERSION,
        description=description,
        components=components or Components(),
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, after_request=_no_page_for_what_is_not_there
        ),
        render_plugins=[JsonRenderPlugin()],
        use_handler_docstrings=True,
    )


async def _no_page_for_what_is_not_there(response: Response[Any]) -> Response[Any]:
    # Everything else below the router is the framework's own 404, in HTML.
    if response.status_code == 404:
        raise NotFoundException
    return response
