"""The provider protocols that the simulator speaks."""
