"""The docs' Python and YAML that need Ray Serve LLM: configs are made, nothing is deployed."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from tests.conftest import no_groups_left
from tests.docs_blocks import PAGES, ROOT, blocks_of, run_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITH_RAY = [page for page in PAGES if any(block.needs == "ray" for block in blocks_of(page, "python"))]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Building an application makes Ray start itself, and making a callback makes a placement group; other tests have a
    Ray of their own, whose resources such a group would take."""
    import ray

    before = ray.is_initialized()
    with no_groups_left() if before else nullcontext():
        yield
    if not before:
        ray.shutdown()


def test_there_are_some() -> None:
    assert ROOT / "README.md" in WITH_RAY


@pytest.mark.filterwarnings("ignore:initialization_class:DeprecationWarning")  # a before, in docs/migrating.md
@pytest.mark.parametrize("page", WITH_RAY, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    run_page(page, tmp_path, monkeypatch, request.getfixturevalue, ray=True)


def test_the_yaml_of_the_pages_makes_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module

    import yaml
    from ray.serve.llm import LLMConfig as RayLLMConfig

    from serve_llm_hooks.ray import HooksCallback, LLMConfig

    modules = {"readme_hooks": "README.md", "cli_hooks": "docs/cli.md", "page_callbacks": "docs/customization.md"}
    for name, source in modules.items():
        module = next(block for block in blocks_of(ROOT / source, "python") if block.file)
        (tmp_path / f"{name}.py").write_text(module.text)
    monkeypatch.syspath_prepend(tmp_path)
    made = 0
    for page, block in [(each, block) for each in PAGES for block in blocks_of(each, "yaml")]:
        hooks = "cli_hooks" if page.name == "cli.md" else "readme_hooks"
        text = block.text.replace("my_company.llm_hooks", hooks)
        document = yaml.safe_load(text.replace("my_company.callbacks", "page_callbacks"))
        for application in document.get("applications", ()):
            path, _, name = application["import_path"].partition(":")
            assert callable(getattr(import_module(path), name))
            args = application["args"]
            for fields in args.get("llm_configs") or args.values():
                config = LLMConfig.model_validate(fields)
                assert (config.hooks, config.callback) in (
                    (["readme_hooks"], None),
                    (None, "page_callbacks:Announce"),
                ) or (page.name == "cli.md" or "serve_llm_hooks.recipes:" in block.text)
                made += 1
        if "callback_config" in document:
            native = RayLLMConfig(model_loading_config={"model_id": "llama-3-8b"}, **document)
            assert isinstance(native.get_or_create_callback(), HooksCallback)
            made += 1
    assert made == 9
