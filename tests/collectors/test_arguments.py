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
        ["--tokens", SECRET],
        ["--hf-tokens", "a", SECRET],
        ["--api-keys", SECRET, SECRET],
        [f"--api-keys={SECRET}"],
        ["--token", SECRET, SECRET],
        ["--token", f"-{SECRET}"],
        ["--pass", SECRET],
        [f"--db-pass={SECRET}"],
        [f"DB_PASS={SECRET}"],
        ["--auth", SECRET],
        [f"--auth={SECRET}"],
        ["--bearer", SECRET],
        ["--authorization", SECRET],
        [f"Authorization: {SECRET}"],
        ["--header", f"Authorization: Token {SECRET}"],
        [f'{{"Authorization": "Token {SECRET}"}}'],
        [f'{{"api_keys": ["{SECRET}", "{SECRET}"]}}'],
        [f"https://example.com?key={SECRET}"],
        [f"https://example.com/x?a=1&sig={SECRET}"],
        [f"https://example.com/x?X-Amz-Signature={SECRET}"],
        [f"a b https://jane:pass@word{SECRET}@example.com/data c"],
        [f"ghr_{'b' * 20}{SECRET.replace('.', '').replace('-', '')}"],
        [f"npm_{'b' * 30}{SECRET.replace('.', '').replace('-', '')}"],
        [f"sk_live_{'b' * 20}{SECRET.replace('.', '').replace('-', '')}"],
        [f"nvapi-{'b' * 20}{SECRET.replace('.', '')}"],
        [f"SG.{'b' * 20}.{'c' * 20}{SECRET.replace('.', '')}"],
    ],
)
def test_credentials_are_hidden(arguments):
    """By the option before them, by their name, by their form."""
    told = " ".join(redacted(["train.py", *arguments, "--lr", "0.1"]))
    assert SECRET not in told
    assert SECRET.replace(".", "") not in told
    assert SECRET.replace(".", "").replace("-", "") not in told
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
        ["--passes", "3", "--author", "me", "--bypass", "x", "--passthrough=1", "--npass", "3"],
        ["--tokens", "512", "--tokens=40k", "--special-tokens", "<pad>"],
        ["--low-pass", "30", "--first_pass=x", "--no-auth", "train.py"],
        ["--use-token", "-fp16", "x", "--token", "-1", "x"],
        ["https://example.com/x?sort=key&monkey=1", "npm_config_registry_of_mine"],
    ],
)
def test_other_arguments_stay(arguments):
    assert arguments == redacted(arguments)


def test_many_addresses_are_no_work():
    """A data set of thousands of files on one line: no pattern looks at the rest again from each of them."""
    many = ",".join(f"s3://bucket/part-{number:05}" for number in range(6000))
    assert [many, f"s3://***@host/{many}"] == redacted([many, f"s3://jane:{many}@host/{many}"])
