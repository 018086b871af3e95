"""The routes of the HTTP server."""

from starlette.applications import Starlette
from starlette.routing import Route

from ..service import Service
from .endpoint import Endpoint, ErrorResponse, Handler
from .handlers import Handlers
from .repository import RepositoryHandlers
from .responses import error_response, method_not_allowed, openai_error_response, path_not_found

_MODEL = "/v2/models/{name}"
_MODEL_PATHS = (_MODEL, f"{_MODEL}/versions/{{version}}")


def make_app(service: Service, version: str) -> Starlette:
    """Make the ASGI application that serves all HTTP routes.

    Args:
        service: The service whose models answer.
        version: The version that the server reports.
    """
    handlers, repository = Handlers(service, version), RepositoryHandlers(service)

    def get(path: str, handler: Handler, error: ErrorResponse = error_response) -> Route:
        return Route(path, Endpoint(service, None, handler, error), methods=["GET"])

    def post(path: str, api: str | None, handler: Handler, error: ErrorResponse = error_response) -> Route:
        return Route(path, Endpoint(service, api, handler, error), methods=["POST"])

    app = Starlette(
        routes=[
            get("/v2/health/live", handlers.live),
            get("/v2/health/ready", handlers.ready),
            get("/v2", handlers.server_metadata),
            get("/v2/models/stats", repository.statistics),  # before /v2/models/{name}
            *(get(path, handlers.model_metadata) for path in _MODEL_PATHS),
            *(get(f"{path}/ready", handlers.model_ready) for path in _MODEL_PATHS),
            *(get(f"{path}/config", repository.config) for path in _MODEL_PATHS),
            *(get(f"{path}/stats", repository.statistics) for path in _MODEL_PATHS),
            post("/v2/repository/index", None, repository.index),
            *(
                post(f"/v2/repository/models/{{name}}/{verb}", None, handler)
                for verb, handler in (("load", repository.load), ("unload", repository.unload))
            ),
            *(post(f"{path}/infer", "v2", handlers.infer) for path in _MODEL_PATHS),
            post("/predict", "predict", handlers.predict),
            post("/v1/embeddings", "embeddings", handlers.embeddings, openai_error_response),
            post("/v1/rerank", "rerank", handlers.rerank, openai_error_response),
            get("/v1/models", handlers.list_models, openai_error_response),
            get("/openapi.json", handlers.openapi),
            get("/metrics", handlers.metrics),
            get("/status.json", handlers.status),
            get("/", handlers.page),
            post("/", "page", handlers.page_with_answer, handlers.page_with_error),
        ],
        exception_handlers={404: path_not_found, 405: method_not_allowed},
    )
    app.router.redirect_slashes = False  # a redirect would send clients to whatever host their request names
    return app
