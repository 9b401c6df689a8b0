"""The judge of answers: validators and confidence."""
