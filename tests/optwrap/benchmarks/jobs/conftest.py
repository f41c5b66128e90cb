"""Programs that need packages of their own hold no examples to run."""

collect_ignore_glob = ["with_*.py"]
