"""Past and active runs, as the command line and the pages show them."""
