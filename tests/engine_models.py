"""Models for tests that need a real engine but no sense in its answers."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = ("<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
# Merges to learn from; every single byte is in the vocabulary anyway, so any prompt can be encoded.
CORPUS = (
    "Hooks run at the right moment, in the right process, on every node.",
    "The capital of France is Paris; the engine answers a chat request, and the tests look at the answer.",
    "Download the model, check the files, warm the cache, start the engine, tell the metrics, in this order.",
)


def make_tiny_llama(folder: Path, *, intermediate_size: int = 128) -> Path:
    """Write a random two-layer Llama with its own tokenizer and chat template, and give the folder back.

    Some 300 kB that vLLM loads like any other model, without a download; the same weights every time. With an
    `intermediate_size` of 8192, 6 MB.
    """
    # By name: type checkers need none of these, and spend no minute reading them where they are installed.
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")

    tokenizer = _train_tokenizer()
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=intermediate_size,
        num_hidden_layers=2,
        num_attention_heads=2,  # heads of 32: the smallest size that vLLM's CPU attention takes
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():  # the caller's random numbers are its own
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    # A logit of 0 is never the greatest of 512: greedy answers neither stop early nor come out empty.
    with torch.no_grad():
        model.lm_head.weight[: len(SPECIAL_TOKENS)] = 0
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _train_tokenizer() -> Any:
    """Train a byte-level BPE on a few sentences: no unknown tokens, and a vocabulary to fit the model."""
    tokenizers = importlib.import_module("tokenizers")
    transformers = importlib.import_module("transformers")

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.train_from_iterator(
        CORPUS,
        tokenizers.trainers.BpeTrainer(
            vocab_size=512,
            special_tokens=[*SPECIAL_TOKENS],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|end|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        model_max_length=512,
        chat_template=CHAT_TEMPLATE,
    )


def make_adapter(folder: Path, *, rank: int = 8) -> Path:
    """Write a random LoRA adapter for such a Llama, as PEFT saves one, and give the folder back."""
    torch = importlib.import_module("torch")
    save_file = importlib.import_module("safetensors.torch").save_file

    weights = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in range(2):
            for module in ("q_proj", "v_proj"):
                name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
                weights[f"{name}.lora_A.weight"] = torch.randn(rank, 64, dtype=torch.bfloat16)
                weights[f"{name}.lora_B.weight"] = torch.randn(64, rank, dtype=torch.bfloat16)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    modules = {"target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "tiny"}
    (folder / "adapter_config.json").write_text(json.dumps(config | modules))
    return folder
