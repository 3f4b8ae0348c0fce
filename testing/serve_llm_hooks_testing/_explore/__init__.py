"""What ``explore_hooks`` does: draw schedules from seeds, run them, judge the runs, and make schedules smaller."""
