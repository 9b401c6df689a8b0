"""Circuit breakers and cooldowns."""
