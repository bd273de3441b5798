"""A small model that any vLLM can serve: Qwen2's shape with two layers and random weights, made in a second.

It speaks nonsense, but the same nonsense each time: the weights come from a fixed seed, so that at
temperature 0 a prompt has one answer. Runs in .venv-vllm:  python tests/vllm/tiny_model.py FOLDER ADAPTER_FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LAYERS = 2
HIDDEN = 256
HEADS = 4
KV_HEADS = 2
INNER = 512
VOCABULARY = 320  # 256 bytes, the special tokens, and room up to a multiple of 64
CONTEXT = 32768
RANK = 8  # of the adapter
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# Qwen's ChatML: https://huggingface.co/Qwen/Qwen2-0.5B-Instruct/blob/main/tokenizer_config.json
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if note is defined %}{{ note }}{% endif %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make(folder: Path) -> None:
    """Write config, weights and tokenizer into `folder`, in the layout of a Hugging Face model."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, end = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": CONTEXT,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    _write(
        folder / "config.json",
        {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_size": HIDDEN,
            "intermediate_size": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "eos_token_id": end,
        },
    )
    _write(folder / "generation_config.json", {"eos_token_id": end})
    save_file(_weights(), str(folder / "model.safetensors"), metadata={"format": "pt"})


def make_adapter(folder: Path) -> None:
    """Write a LoRA adapter of that model, in PEFT's layout: strong enough that it answers otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": RANK,
        "lora_alpha": 64 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["o_proj"],
    }
    _write(folder / "adapter_config.json", about)
    draw = np.random.default_rng(21)
    weights = {}
    for layer in range(LAYERS):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        weights[f"{name}.lora_A.weight"] = draw.normal(0, 0.1, (RANK, HIDDEN)).astype(np.float32)
        weights[f"{name}.lora_B.weight"] = draw.normal(0, 0.1, (HIDDEN, RANK)).astype(np.float32)
    save_file(weights, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})


def _tokenizer() -> tuple[Tokenizer, int]:
    """A byte-level BPE without merges: one token is one byte, so a text has as many tokens as bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer, tokenizer.token_to_id("<|im_end|>")


def _weights() -> dict[str, np.ndarray]:
    """Qwen2's tensors, drawn wide enough that the next token depends on the ones before it."""
    draw = np.random.default_rng(20)

    def random(*shape: int) -> np.ndarray:
        return draw.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32)

    head = HIDDEN // HEADS
    weights = {
        "model.embed_tokens.weight": draw.normal(0, 1, (VOCABULARY, HIDDEN)).astype(np.float32),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
        "lm_head.weight": random(VOCABULARY, HIDDEN) * 3,
    }
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        weights |= {
            f"{layer}.input_layernorm.weight": np.ones(HIDDEN, np.float32),
            f"{layer}.post_attention_layernorm.weight": np.ones(HIDDEN, np.float32),
            f"{layer}.self_attn.q_proj.weight": random(HEADS * head, HIDDEN),
            f"{layer}.self_attn.q_proj.bias": np.zeros(HEADS * head, np.float32),
            f"{layer}.self_attn.k_proj.weight": random(KV_HEADS * head, HIDDEN),
            f"{layer}.self_attn.k_proj.bias": np.zeros(KV_HEADS * head, np.float32),
            f"{layer}.self_attn.v_proj.weight": random(KV_HEADS * head, HIDDEN),
            f"{layer}.self_attn.v_proj.bias": np.zeros(KV_HEADS * head, np.float32),
            f"{layer}.self_attn.o_proj.weight": random(HIDDEN, HEADS * head),
            f"{layer}.mlp.gate_proj.weight": random(INNER, HIDDEN),
            f"{layer}.mlp.up_proj.weight": random(INNER, HIDDEN),
            f"{layer}.mlp.down_proj.weight": random(HIDDEN, INNER),
        }
    return weights


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2), "utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    make_adapter(Path(sys.argv[2]))
