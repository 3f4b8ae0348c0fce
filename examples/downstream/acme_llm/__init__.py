"""What Acme adds to Ray Serve LLM."""
