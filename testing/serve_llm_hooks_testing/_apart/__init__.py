"""What each simulated process has to itself, although all of them run in the test's process."""
