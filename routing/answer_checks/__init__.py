"""How an answer is checked: where its confidence is from, and what that confidence is worth."""
