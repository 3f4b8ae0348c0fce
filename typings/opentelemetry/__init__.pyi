# The few names of OpenTelemetry that this project uses, so that checkers need it no more than the project does.
