"""Command lines: what looks like a credential is hidden, and what a run is known by stays."""

import pytest

from tracelet.collectors.arguments import redacted

SECRET = "s3cr3t-Value.9"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--api-key", SECRET],
        ["--api_key", SECRET],
        ["--apikey", SECRET],
        ["-token", SECRET],
        ["--hf-token", SECRET],
        ["--wandb-key", SECRET],
        [f"wandb_v1_{'d' * 70}{SECRET.replace('.', '')}"],
        ["--db.password", SECRET],
        ["--PASSWORD", SECRET],
        ["--secrets", SECRET],
        [f"--api-key={SECRET}"],
        [f"--password={SECRET} with blanks"],
        [f"api_key={SECRET}"],
        [f"+trainer.logger.api_key={SECRET}"],
        [f"++logger.token={SECRET}"],
        [f'{{"api_key": "{SECRET}", "lr": 0.1}}'],
        [f'{{"password": "a {SECRET} b"}}'],
        [f"--header=Authorization: Bearer {SECRET}"],
        [f"https://jane:{SECRET}@example.com/data"],
        [f"postgres://jane:a/b{SECRET}@host:5432/db"],
        [f"--url=https://example.com/?token={SECRET}&x=1"],
        [f"hf_{'a' * 10}{SECRET.replace('.', '')}"],
        ["--key-file=x", f"ghp_{'b' * 20}{SECRET.replace('.', '')}"],
        [f"eyJhbGciOiJIUzI1NiJ9.{'c' * 12}.{SECRET}"],
    ],
)
def test_credentials_are_hidden(arguments):
    """By the option before them, by their name, by their form."""
    told = " ".join(redacted(["train.py", *arguments, "--lr", "0.1"]))
    assert SECRET not in told
    assert SECRET.replace(".", "") not in told
    assert "***" in told
    assert told.startswith("train.py ")
    assert told.endswith(" --lr 0.1")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-tokens", "512", "--tokenizer", "bert", "--num_tokens=5"],
        ["--keys", "a", "b", "--keyboard", "qwertz"],
        ["--use-token", "--lr", "0.1"],
        ["data/secret-garden.txt", "--out=token_classification"],
        ["--model=resnet_v2_imagenet_pretrained", "sk-learn-random-forest"],
        ["https://example.com/scope/x?y=1"],
        ["s3://bucket/a", "user@host:path", "-c", "x = 1"],
    ],
)
def test_other_arguments_stay(arguments):
    assert arguments == redacted(arguments)
