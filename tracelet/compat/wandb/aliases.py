"""The modules of wandb that the facade has, for `tracelet.replacing`. This module imports nothing."""

VERSION = "0.31.0"
"""The version of wandb whose API the facade has, for programs that check it."""

MODULES = {
    "": "",
    "api": "api",
    "apis": "apis",
    "apis.public": "api",
    "data_types": "data_types",
    "env": "env",
    "errors": "errors",
    "errors.term": "terminal",
    "integration": "integration",
    "integration.lightning": "lightning_integration",
    "integration.sb3": "sb3_integration",
    "plot": "plot",
    "sdk": "sdk",
    "sdk.artifacts": "artifacts",
    "sdk.artifacts.artifact": "artifacts",
    "sdk.data_types": "data_types",
    "sdk.data_types.histogram": "data_types",
    "sdk.data_types.image": "data_types",
    "sdk.data_types.table": "data_types",
    "sdk.data_types.video": "data_types",
    "sdk.lib": "sdk_lib",
    "sdk.lib.config_util": "errors",
    "sdk.lib.runid": "util",
    "sdk.lib.telemetry": "telemetry",
    "sdk.wandb_config": "config_object",
    "sdk.wandb_run": "run_object",
    "sdk.wandb_settings": "settings",
    "sdk.wandb_summary": "summary_object",
    "util": "util",
    "wandb_run": "run_object",
}
"""Each module of wandb, and the one of the facade that stands for it."""
