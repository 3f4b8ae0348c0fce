"""Give each simulated process what it has to itself, although all of them run in the test's process."""
