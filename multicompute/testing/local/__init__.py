"""Local clouds: servers on 127.0.0.1 that stand in for real clouds, and the parts that providers build theirs from."""
