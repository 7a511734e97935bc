"""A cluster on one machine, for benchmarks and acceptance: hosts made of namespaces, and the launch files run on them."""
