"""The status page at /: the models, their load, and a form to try them. It works without scripts."""

import html
import json
import secrets
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

import numpy as np
from starlette.responses import Response

from ...artifact.tasks import MULTIPLE_CHOICE, QUESTION_ANSWERING
from ..model import Model
from ..service import Service

_LIVE = {
    "answers_per_second": "answers per second, last minute",
    "p50_ms": "median, ms",
    "p99_ms": "99th percentile, ms",
    "unanswered": "requests queued or running",
}
_HINT = (
    "Text. For question answering: the question, and the context on the lines below it. "
    "For multiple choice: the prompt, and each choice on a line of its own."
)
_SHOWN_VALUES = 8


def status_json(service: Service) -> dict[str, Any]:
    """The current load of every model, ready for JSON."""
    return {
        "ready": service.ready,
        "models": [
            {
                "name": model.name,
                "version": model.version,
                "proved": model.predictor.proved is not None,
                "live": {**recent, "unanswered": model.predictor.scheduler.unanswered},
            }
            for model, recent in service.metrics.recent(service.models)
        ],
    }


def _items(model: Model, text: str) -> list[Any]:
    """The text in the form, as the method for the model's task takes it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if model.manifest.task == QUESTION_ANSWERING:
        return [(lines[0] if lines else "", "\n".join(lines[1:]))]
    if model.manifest.task == MULTIPLE_CHOICE:
        return [(lines[0] if lines else "", lines[1:])]
    return [text.strip()]


@dataclass(frozen=True, slots=True)
class Form:
    """What is in the form: the name of a model, a text, and whether to cut it if it is too long."""

    model: str = ""
    text: str = ""
    truncate: bool = False


async def answer_text(model: Model, form: Form) -> str:
    """The model's answer to the text in the form, formatted to be read by people."""
    answers, _ = await model.answer(_items(model, form.text), form.truncate or None)
    found = answers[0]
    if isinstance(found, np.ndarray):
        numbers = ", ".join(f"{value:.4f}" for value in found[:_SHOWN_VALUES])
        return f"[{numbers}, ...] {len(found)} numbers"
    return json.dumps(found, ensure_ascii=False, indent=1)


def render_page(
    service: Service,
    version: str,
    form: Form = Form(),
    answer: str = "",
    status_code: int = 200,
) -> Response:
    """Render the page.

    Args:
        service: The service whose models are shown.
        version: The version of the server.
        form: What is in the form.
        answer: The answer to it, or the error message.
        status_code: The HTTP status.
    """
    nonce = secrets.token_urlsafe(16)
    live = {(one["name"], one["version"]): one["live"] for one in status_json(service)["models"]}
    models = list(service.models)
    names = list(dict.fromkeys(one.name for one in models))
    page = Template(resources.files(__package__).joinpath("page.html").read_text("utf-8")).substitute(
        title=html.escape(f"{', '.join(names)} - albert-serve"),
        nonce=nonce,
        version=html.escape(version),
        state="ready" if service.ready else "not ready",
        cards="\n".join(_card(one, live[one.name, one.version]) for one in models),
        choices="".join(_option(name, chosen=name == form.model) for name in names),
        hint=_HINT,
        text=html.escape(form.text),
        truncate=" checked" if form.truncate else "",
        answer=f"<pre>{html.escape(answer)}</pre>" if answer else "",
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return Response(
        page,
        status_code,
        media_type="text/html",
        headers={
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
        },
    )


def _option(name: str, *, chosen: bool) -> str:
    return f"<option{' selected' if chosen else ''}>{html.escape(name)}</option>"


def _card(model: Model, live: dict[str, Any]) -> str:
    config, manifest, info = model.manifest.config, model.manifest, model.predictor.info()
    origin = manifest.weights_origin
    facts = {
        "task": manifest.task,
        "parameters": f"{config.parameter_count():,}",
        "layers": f"{config.num_hidden_layers}, in {_count(config.num_hidden_groups, 'group')}",
        "hidden size": config.hidden_size,
        "vocabulary": f"{config.vocab_size:,}",
        "longest input": f"{config.max_position_embeddings} tokens",
        "stored precision": manifest.precision,
        "backend": " ".join(str(info[key]) for key in ("backend", "computes", "isa") if key in info),
        "proved": _proved(model),
        "threads": info.get("num_threads", ""),
        "weights": "random: the answers are meaningless"
        if origin.get("kind") == "random"
        else origin.get("kind", ""),
        "labels": ", ".join((manifest.labels or ())[:12]),
    }
    return (
        f'<section data-model="{html.escape(model.name, quote=True)}/{model.version}">'
        f"<h2>{html.escape(model.name)} <small>version {model.version}</small></h2>"
        f'<dl class="live">{"".join(_live(name, live[name]) for name in _LIVE)}</dl>'
        f"<dl>{''.join(_fact(name, value) for name, value in facts.items() if value != '')}</dl></section>"
    )


def _proved(model: Model) -> str:
    """What was proved, for people."""
    proved = model.predictor.proved
    if proved is None:
        return "no, see --prove"
    return f"{proved.precision}, to the bit: {', '.join(proved.outputs)}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _live(name: str, value: Any) -> str:
    return f'<div><dt>{_LIVE[name]}</dt><dd data-live="{name}">{"-" if value is None else value}</dd></div>'


def _fact(name: str, value: Any) -> str:
    return f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>"
