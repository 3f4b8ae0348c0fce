"""Acme's additions to Ray Serve LLM."""
