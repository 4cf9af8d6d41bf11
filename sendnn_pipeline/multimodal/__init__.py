"""Images for language models: where they are encoded, by which architecture's rules, and how their files are read."""
