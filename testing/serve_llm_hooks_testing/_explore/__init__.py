"""Draw schedules from seeds, run them, judge the runs, and make failing schedules smaller."""
