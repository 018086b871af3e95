"""Triton's extensions over HTTP: model configuration, statistics and model repository."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..model_config import model_config
from ..request_parameters import check_load_parameters
from ..service import Service
from .bodies import read_body
from .responses import json_response
from .schemas import RepositoryIndexRequest, RepositoryRequest, decode


class RepositoryHandlers:
    """The handlers of these extensions. A load may take any time, so it has no deadline."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def config(self, request: Request) -> Response:
        model = self._service.models.find(request.path_params["name"], request.path_params.get("version"))
        return json_response(model_config(model))

    async def statistics(self, request: Request) -> Response:
        models = self._service.models.find_all(
            request.path_params.get("name", ""), request.path_params.get("version", "")
        )
        return json_response(self._service.statistics.report(models))

    async def index(self, request: Request) -> Response:
        asked: RepositoryIndexRequest = await self._read(request, RepositoryIndexRequest)
        return json_response(self._service.models.index(ready=bool(asked.ready)))

    async def load(self, request: Request) -> Response:
        asked: RepositoryRequest = await self._read(request, RepositoryRequest)
        self._service.check_ready()
        check_load_parameters(asked.parameters or {})
        await self._service.loader.load(request.path_params["name"])
        return Response()

    async def unload(self, request: Request) -> Response:
        await self._read(request, RepositoryRequest)
        self._service.check_ready()
        await self._service.loader.unload(request.path_params["name"])
        return Response()

    async def _read(self, request: Request, schema: Any) -> Any:
        limits = self._service.limits
        body = await read_body(request, limits.max_body_bytes, limits.timeout)
        return decode(schema, body or b"{}")  # Triton's clients may send none
