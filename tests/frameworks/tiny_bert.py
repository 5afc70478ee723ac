"""Train the smallest possible Transformers model: a tiny BERT, and sentences of random words."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

WORDS, LENGTH = 16, 6


def model() -> Any:
    transformers = importlib.import_module("transformers")
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=LENGTH,
        num_labels=2,
    )
    return transformers.BertForSequenceClassification(config)


def sentences(count: int = 8) -> list[dict[str, Any]]:
    import torch

    words = torch.randint(WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": sentence, "labels": sentence[0] % 2} for sentence in words]


def trainer(
    folder: Path, *, callbacks: list[Any] | None = None, report_to: str | list[str] = "none", **arguments: Any
) -> Any:
    """Return a deterministic Trainer that logs each of four steps, and evaluates after each of two epochs."""
    transformers = importlib.import_module("transformers")
    transformers.set_seed(1)
    return transformers.Trainer(
        model=model(),
        args=transformers.TrainingArguments(
            output_dir=str(folder),
            report_to=report_to,
            num_train_epochs=2,
            per_device_train_batch_size=4,
            logging_steps=1,
            eval_strategy="epoch",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            seed=1,
            **arguments,
        ),
        train_dataset=sentences(),
        eval_dataset=sentences(4),
        compute_metrics=lambda guesses: {"accuracy": (guesses.predictions.argmax(1) == guesses.label_ids).mean()},
        callbacks=callbacks,
    )
