"""``model_loading_config`` without Ray: where a model comes from, checked as Ray's config checks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from serve_llm_hooks._core.messages import describe, did_you_mean, without_login, without_value

_REMOTE = ("s3://", "gs://", "abfss://", "azure://", "pyarrow-")
_SCHEMES = '"s3://", "gs://", "abfss://", or "azure://"'


@dataclass
class FakeExtraFiles:
    """Files that every node needs besides the model."""

    bucket_uri: str
    destination_path: str


@dataclass
class FakeMirrorConfig:
    """A bucket with the model, as Ray's ``CloudMirrorConfig``."""

    bucket_uri: str | None = None
    extra_files: list[FakeExtraFiles] = field(default_factory=list)

    def model_dump(self) -> dict[str, Any]:
        """Return it as a dict."""
        return asdict(self)


@dataclass
class FakeModelLoadingConfig:
    """The model's name and source, as Ray's ``ModelLoadingConfig``."""

    model_id: str
    model_source: str | FakeMirrorConfig | None = None
    tokenizer_source: str | None = None


def is_remote(source: str) -> bool:
    """Return True for a bucket, as Ray tells one."""
    return source.startswith(_REMOTE)


def loading_of(model_id: object, model_source: object, loading: object, *, has_source: bool) -> FakeModelLoadingConfig:
    """Return the ``model_loading_config`` of a config's fields.

    Args:
        model_id: the field ``model_id``; ``None`` if it is not given.
        model_source: the field ``model_source``.
        loading: the field ``model_loading_config``.
        has_source: whether ``model_source`` is given, and not the default.

    Raises:
        ValueError: what Ray would refuse.
    """
    if loading is None:
        return FakeModelLoadingConfig(_model_id(model_id), _source(model_source))
    if isinstance(loading, FakeModelLoadingConfig):
        loading = dict(vars(loading))
    if not isinstance(loading, Mapping):
        raise ValueError(
            'model_loading_config= is a mapping, as in {"model_id": ..., "model_source": ...}, not '
            f"{without_value(loading)}"
        )
    if has_source:
        raise ValueError("model_source= and model_loading_config= differ in where they say it; give one")
    given = dict(loading)
    _only("model_loading_config", given, ("model_id", "model_source", "tokenizer_source"))
    if model_id is not None and given.setdefault("model_id", model_id) != model_id:
        raise ValueError(
            f"model_id={describe(model_id)} and model_loading_config['model_id']={describe(given['model_id'])} differ; "
            "give one"
        )
    tokenizer = given.get("tokenizer_source")
    if tokenizer is not None and not isinstance(tokenizer, str):
        raise ValueError(f"model_loading_config['tokenizer_source'] is a Hugging Face id, not {describe(tokenizer)}")
    return FakeModelLoadingConfig(_model_id(given.get("model_id")), _source(given.get("model_source")), tokenizer)


def _model_id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"model_id is the model's name, not {describe(value)}")
    return value


def _source(value: Any) -> str | FakeMirrorConfig | None:
    """Return a model's source, checked as Ray's config checks it."""
    if value is None or isinstance(value, str | FakeMirrorConfig):
        return value
    if hasattr(type(value), "model_dump"):  # Ray's own
        value = value.model_dump()
    if not isinstance(value, Mapping):
        raise ValueError(
            "model_source= is a Hugging Face id, a folder, a bucket ('s3://...'), a mapping with bucket_uri, or None, "
            f"not {describe(value)}"
        )
    _only("model_source", value, ("bucket_uri", "extra_files"))
    bucket = value.get("bucket_uri")
    if bucket is not None and not isinstance(bucket, str):
        raise ValueError(f"model_source['bucket_uri'] is a bucket ({_SCHEMES}), not {describe(bucket)}")
    if bucket is not None and not is_remote(bucket):
        raise ValueError(
            f'Got invalid value "{without_login(bucket)}" for bucket_uri. Expected a URI that starts with {_SCHEMES}.'
        )
    files = value.get("extra_files", ())
    if not isinstance(files, list | tuple):
        raise ValueError(f"model_source['extra_files'] is a list, not {without_value(files)}")
    return FakeMirrorConfig(bucket, [_extra_files(each) for each in files])


def _extra_files(value: object) -> FakeExtraFiles:
    names = ("bucket_uri", "destination_path")
    if isinstance(value, FakeExtraFiles):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"an entry of extra_files is a mapping with {' and '.join(names)}, not {without_value(value)}")
    _only("extra_files", value, names)
    for name in names:
        if not isinstance(value.get(name), str):
            raise ValueError(f"extra_files: {name!r} of an entry must be a text, not {describe(value.get(name))}")
    return FakeExtraFiles(value["bucket_uri"], value["destination_path"])


def _only(what: str, given: Mapping[Any, Any], names: tuple[str, ...]) -> None:
    """Check the keys of a mapping.

    Raises:
        ValueError: one that Ray does not know.
    """
    for name in given:
        if name not in names:
            raise ValueError(
                f"{what} takes no {describe(name)}{did_you_mean(name, names)}; its keys are {', '.join(names)}"
            )
