"""Fine-tunes a sentence classifier, as the scripts that come with Transformers do.

The sentences are random and the model is tiny, so that nothing has to be downloaded.
"""

from dataclasses import dataclass, field

import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)


@dataclass
class ModelArguments:
    hidden_size: int = field(default=8, metadata={"help": "Width of the model."})
    vocab_size: int = field(default=32, metadata={"help": "Number of words."})


@dataclass
class DataArguments:
    max_train_samples: int = field(default=16, metadata={"help": "Sentences to learn from."})
    max_eval_samples: int = field(default=8, metadata={"help": "Sentences to be judged by."})
    max_seq_length: int = field(default=6, metadata={"help": "Words of a sentence."})


class Sentences(Dataset):
    def __init__(self, count, length, vocab_size, seed):
        self.words = torch.randint(vocab_size, (count, length), generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return len(self.words)

    def __getitem__(self, index):
        return {"input_ids": self.words[index], "labels": self.words[index][0] % 2}


def compute_metrics(prediction):
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    set_seed(training_args.seed)

    config = BertConfig(
        vocab_size=model_args.vocab_size,
        hidden_size=model_args.hidden_size,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=data_args.max_seq_length,
        num_labels=2,
    )
    train, held_out = (
        Sentences(count, data_args.max_seq_length, model_args.vocab_size, seed)
        for seed, count in enumerate([data_args.max_train_samples, data_args.max_eval_samples])
    )
    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=training_args,
        train_dataset=train,
        eval_dataset=held_out,
        compute_metrics=compute_metrics,
    )
    if training_args.do_train:
        trainer.train()
        trainer.save_model()
    if training_args.do_eval:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)


if __name__ == "__main__":
    main()
