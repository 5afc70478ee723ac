"""wandb's API over tracelet's runs."""
