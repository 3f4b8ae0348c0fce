"""What hooks may set in ``ctx.extra_init_kwargs``, and what is told of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from serve_llm_hooks import EngineArgumentError
from serve_llm_hooks._replica.engine_args import split_engine_kwargs

ENGINE = {"max_model_len", "max_num_seqs", "tensor_parallel_size", "data_parallel_rank"}
FRONTEND = {"chat_template", "tool_call_parser"}


def split(extra: dict[str, Any], **current: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return split_engine_kwargs(extra, engine_names=ENGINE, frontend_names=FRONTEND, current=current)


def refuse(extra: dict[str, Any], **current: Any) -> str:
    with pytest.raises(EngineArgumentError) as caught:
        split(extra, **current)
    return str(caught.value)


def test_each_key_goes_where_it_belongs() -> None:
    assert split({"max_model_len": 128, "chat_template": "t", "max_num_seqs": 4}) == (
        {"max_model_len": 128, "max_num_seqs": 4},
        {"chat_template": "t"},
    )


def test_an_unknown_key() -> None:
    assert refuse({"max_model_length": 128}) == (
        "ctx.extra_init_kwargs['max_model_length'] is no argument of the engine (did you mean 'max_model_len'?)"
    )
    assert refuse({"chat_templat": "t"}).endswith("(did you mean 'chat_template'?)")


def test_where_the_engines_arguments_are_not_known_none_is_refused() -> None:
    assert split_engine_kwargs({"whatever": 1}, engine_names=None, frontend_names=FRONTEND, current={}) == (
        {"whatever": 1},
        {},
    )


@pytest.mark.parametrize("key", ["model", "served_model_name"])
def test_what_is_set_elsewhere(key: str) -> None:
    assert refuse({key: "m"}) == (
        f"ctx.extra_init_kwargs[{key!r}] cannot be set by a hook: set ctx.model_path to load the model from elsewhere; "
        "the name that clients use is model_id in the config"
    )


def test_a_parallel_size_is_fixed_with_the_placement_group() -> None:
    told = (
        "ctx.extra_init_kwargs['tensor_parallel_size'] = 4 cannot be changed by a hook, because the placement group is "
        "made for {}: write it into engine_kwargs of the config"
    )
    assert refuse({"tensor_parallel_size": 4}) == told.format(1)
    assert refuse({"tensor_parallel_size": 4}, tensor_parallel_size=2) == told.format(2)
    assert split({"tensor_parallel_size": 1}) == ({"tensor_parallel_size": 1}, {})
    assert split({"tensor_parallel_size": 2}, tensor_parallel_size=2) == ({"tensor_parallel_size": 2}, {})
    assert "cannot be changed by a hook" in refuse({"data_parallel_rank": 0})
